"""Asking an agent's model for its next message."""

from __future__ import annotations

import uuid
from functools import partial

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.replies import calls_proposed, message_normalise, shown
from apps.agents.services.images import has_references, messages_resolve
from apps.agents.services.ledger import model_call_key
from apps.agents.tools.catalogue import tools_for
from apps.agents.types import Event
from apps.core.database import Connection
from apps.usage.types import ModelReply


async def model_call(state: SessionState, runtime: Runtime[RunContext]) -> None:
    """Ask the model for the next message."""
    context = runtime.context
    execution_id, role = uuid.UUID(state["execution_id"]), state["role"]
    transcript = await context.transcript(execution_id)
    position = len(transcript)
    model = context.model_for(role)
    seq = 0

    async def settle(connection: Connection, reply: ModelReply) -> None:
        nonlocal seq
        message = message_normalise(reply.message, position)
        seq = await context.ledger.append(connection, _model_replied(execution_id, role, position, message, reply))
        await context.ledger.message_insert(connection, execution_id, position, message)
        transcript.append(message)

    def delta(text: str) -> None:
        context.ledger.delta_send(execution_id=execution_id, role=role, text=text, step=position)

    try:
        await context.gateway.call(
            scope_id=context.facts.session_id,
            key=model_call_key(execution_id, position, context.facts.rewinds),
            role=role,
            spec=model.spec,
            fallbacks=model.fallbacks,
            messages=await _messages_sent(context, role, transcript),
            tools=[tool.definition for tool in tools_for(role, context.offer(role)).values()],
            on_delta=delta,
            on_settle=settle,
        )
    except BaseException:
        # The rows decide what was said: the message above may or may not have been committed.
        context.transcript_forget(execution_id)
        raise
    context.ledger.ring(seq)


async def _messages_sent(context: RunContext, role: str, transcript: list[BaseMessage]) -> list[BaseMessage]:
    """The conversation as it goes to the model: with the images that its rows only name."""
    if not has_references(transcript):
        return transcript
    resolve = partial(messages_resolve, session_id=context.facts.session_id, vision=context.vision(role))
    return await context.ledger.database.run_in_thread(resolve, transcript)


def _model_replied(execution_id: uuid.UUID, role: str, position: int, message: AIMessage, reply: ModelReply) -> Event:
    usage = reply.usage
    return Event(
        "ModelReplied",
        {
            "execution": str(execution_id),
            "role": role,
            "step": position,
            "model": reply.model,
            "text": shown(str(message.text)),
            "tool_calls": [{"name": call.name, "arguments": shown(call.arguments)} for call in calls_proposed(message)],
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cached_tokens": usage.cached_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
                "cost_usd": usage.cost_usd,
                "estimated": usage.estimated,
                "priced": usage.priced,
            },
        },
    )
