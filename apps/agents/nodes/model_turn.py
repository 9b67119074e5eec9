"""Asking an agent's model for its next message."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from functools import lru_cache, partial

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.compaction import (
    Cause,
    ContextTooSmall,
    Learned,
    conversation_fit,
    room_of,
    spec_within,
    window_learn,
)
from apps.agents.nodes.context import RunContext, SessionState, window_name
from apps.agents.nodes.conversation import Conversation
from apps.agents.nodes.replies import calls_proposed, message_normalise, shown, usage_shown
from apps.agents.services.compaction_plan import Meter
from apps.agents.services.images import has_references, messages_resolve
from apps.agents.services.ledger_records import model_call_key
from apps.agents.tools.catalogue import Offer, tools_for
from apps.agents.tools.definitions import tool_definition
from apps.agents.types import Event
from apps.core.database import Connection
from apps.usage.errors import ModelCallFailed
from apps.usage.retry import failure_of_all, next_model
from apps.usage.types import ModelReply
from integrations.llm_providers.capabilities import context_tokens, image_tokens
from integrations.llm_providers.types import ModelSpec

#: How often one step's conversation is cut because a model turned out to read less than it was sent.
CUTS = 4


async def model_call(state: SessionState, runtime: Runtime[RunContext], *, is_stuck: bool = False) -> None:
    """Ask the model for the next message; a conversation that has become too long is cut first.

    The models of the role are asked in order; one that ``is_stuck`` is left out. Where one reads less than the one
    before it, the conversation is cut for it when its turn comes, and not before.
    """
    context = runtime.context
    execution_id, role = uuid.UUID(state["execution_id"]), state["role"]
    model = context.model_for(role)
    windows = await context.windows()
    specs = [model.spec, *model.fallbacks][1 if is_stuck else 0 :]
    chain = [spec_within(spec, windows) for spec in specs]
    cause: Cause = "share"
    learned: Learned | None = None
    failures: list[tuple[ModelSpec, ModelCallFailed]] = []
    for _ in range(CUTS + len(chain)):
        conversation = await context.conversation(execution_id)
        meter = _meter(context, conversation, role, chain[0])
        try:
            await conversation_fit(
                context, conversation, role=role, chain=chain, meter=meter, cause=cause, learned=learned
            )
        except ContextTooSmall:
            window = context_tokens(chain[0])
            larger = next((place for place, spec in enumerate(chain) if context_tokens(spec) > window), None)
            if larger is None:
                raise
            chain = chain[larger:]
            continue
        sent = meter.tokens(conversation.measured.viewed(conversation.cut))
        others = _with_room(chain[1:], sent)
        try:
            await _ask(context, conversation, role, chain[0], others)
            return
        except ModelCallFailed as error:
            overlong = next((each for each in error.of if each[1].kind == "context_too_long"), None)
            if overlong is not None:
                failed, failure = overlong
                learned = Learned(window_name(failed), window_learn(failed, failure.context_tokens, sent))
                windows[learned.model] = min(learned.window, windows.get(learned.model, learned.window))
                chain = [spec_within(spec, windows) for spec in chain[chain.index(failed) :]]
                cause = "context_too_long"
                continue
            asked = 1 + len(others)
            if asked == len(chain) or next_model(error.failure, chain[0], chain[asked:]) is None:
                raise failure_of_all([*failures, (chain[0], error)]) if failures else error from error
            failures.append((chain[0], error))
            chain, cause, learned = chain[asked:], "smaller_model", None
    raise ContextTooSmall(
        f"{chain[0].name} still finds the conversation too long after it was cut {CUTS} times",
        next_step="choose a model with a larger context window, or look at what the endpoint says in its log",
    )


async def _ask(
    context: RunContext, conversation: Conversation, role: str, spec: ModelSpec, fallbacks: Sequence[ModelSpec]
) -> None:
    """Call the model, and its message becomes the conversation's next."""
    execution_id, transcript = conversation.execution_id, conversation.transcript
    position = len(transcript)
    seq, message = 0, AIMessage("")

    async def settle(connection: Connection, reply: ModelReply) -> None:
        nonlocal seq, message
        message = message_normalise(reply.message, position)
        seq = await context.ledger.append(connection, _model_replied(execution_id, role, position, message, reply))
        await context.ledger.message_insert(connection, execution_id, position, message)

    def delta(text: str) -> None:
        context.ledger.live.delta_send(execution_id=execution_id, role=role, text=text, step=position)

    try:
        await context.gateway.call(
            scope_id=context.facts.session_id,
            key=model_call_key(execution_id, position, context.facts.rewinds),
            role=role,
            spec=spec,
            fallbacks=fallbacks,
            messages=await _messages_sent(context, role, conversation.view()),
            tools=[tool_definition(tool) for tool in tools_for(role, context.offer(role)).values()],
            on_delta=delta,
            on_settle=settle,
        )
    except BaseException:
        # The rows decide what was said: the message above may or may not have been committed.
        context.conversation_forget(execution_id)
        raise
    transcript.append(message)
    context.ledger.live.ring(seq)


def _with_room(specs: Sequence[ModelSpec], sent: int) -> list[ModelSpec]:
    """Those of the fallbacks, in order, that can read the conversation as it is."""
    place = next((index for index, spec in enumerate(specs) if sent > room_of(spec).most), len(specs))
    return list(specs[:place])


def _meter(context: RunContext, conversation: Conversation, role: str, spec: ModelSpec) -> Meter:
    return conversation.meter(tools_bytes=_tools_bytes(role, context.offer(role)), image_tokens=image_tokens(spec))


@lru_cache(maxsize=64)
def _tools_bytes(role: str, offer: Offer) -> int:
    return len(json.dumps([tool_definition(tool) for tool in tools_for(role, offer).values()]))


async def _messages_sent(context: RunContext, role: str, view: list[BaseMessage]) -> list[BaseMessage]:
    """The conversation as it goes to the model: with the images that its rows only name."""
    if not has_references(view):
        return view
    resolve = partial(messages_resolve, session_id=context.facts.session_id, vision=context.vision(role))
    return await context.ledger.database.run_in_thread(resolve, view)


def _model_replied(execution_id: uuid.UUID, role: str, position: int, message: AIMessage, reply: ModelReply) -> Event:
    return Event(
        "ModelReplied",
        {
            "execution": str(execution_id),
            "role": role,
            "step": position,
            "model": reply.model,
            "text": shown(str(message.text)),
            "tool_calls": [{"name": call.name, "arguments": shown(call.arguments)} for call in calls_proposed(message)],
            "usage": usage_shown(reply.usage),
        },
    )
