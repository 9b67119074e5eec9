"""The two nodes of an agent at work: ask the model, carry out what it asks for.

Both read where they are from the conversation's rows, so running one again after a crash repeats nothing that was
written: a reply that stands is not asked for again, a finished call is not made again.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.baseline import baseline_open, checks_observe
from apps.agents.nodes.context import RunContext, SessionState, SessionSuspended
from apps.agents.nodes.conventions import folder_rules
from apps.agents.services.images import has_references, messages_resolve, session_image_put
from apps.agents.services.ledger import ToolCallIntent, ToolCallRecord
from apps.agents.tools.base import (
    OBSERVATION_LIMIT,
    Finish,
    Observation,
    Question,
    Tool,
    ToolContext,
    text_cut,
)
from apps.agents.tools.catalogue import tools_for
from apps.agents.tools.edit_formats import edit_format_used
from apps.agents.tools.policy import Allowed, Refused, call_judge
from apps.agents.types import Event, SessionStatus, ToolCallStatus
from apps.core.database import Connection
from apps.core.storable import json_storable, text_storable
from apps.projects.workspace import WorkspaceError
from apps.usage.types import ModelReply
from integrations.llm_providers.blocks import calls_renamed

#: Answers without a tool call in a row before the agent's last words are taken for its result.
PLAIN_ANSWERS = 3
#: What an event shows of a text that the model wrote, in characters.
EVENT_TEXT = 8_000
#: Replies in a row whose calls were all refused (no such tool, wrong arguments) before the agent is ended.
REFUSED_REPLIES = 5
ONLY_REFUSED = (
    f"The model's last {REFUSED_REPLIES} replies called only tools that there aren't, or with arguments that cannot be"
    " read: it was stopped. Another model, or another form of edits or of tool calls for this one, may do better."
)
#: Replies that one execution may take; the session's own limit of steps usually comes first.
EXECUTION_TURNS = 400
ENDED = "not carried out: an earlier call of the same reply ended the work"
NUDGE = "Go on by calling a tool. When your work is done, or cannot be done, call {final}."
#: The longest name and id of a call that every provider takes back.
NAME_LENGTH = 64
CALL_ID_LENGTH = 64
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
UNKNOWN_OUTCOME = (
    "This call was interrupted (the session was paused, or the process that ran it died) before its result could be"
    " written down: the outcome is unknown. The call was not repeated. Look at the files first, then decide whether it"
    " has to be made again."
)


@dataclass(frozen=True)
class ProposedCall:
    """A tool call as the model proposed it; ``problem`` when its arguments aren't JSON."""

    provider_call_id: str
    name: str
    arguments: Mapping[str, Any]
    problem: str = ""


async def step_take(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """One step of an agent: a reply of the model, and the calls in it carried out.

    After a crash the rows may be ahead of the cursor, anywhere within the step: a reply with calls that have no result
    yet is not followed by another one, and an agent that has ended is asked nothing.
    """
    context = runtime.context
    execution_id = uuid.UUID(state["execution_id"])
    transcript = await context.transcript(execution_id)
    if len(transcript) != state.get("turn") and await context.ledger.result_load(execution_id) is not None:
        return {"turn": len(transcript), "ended": True}
    if not reply_open(transcript):
        await model_call(state, runtime)
    after = await tools_run(state, runtime)
    if after.get("ended"):
        await context.site.commands_end()
    return after


def reply_open(transcript: Sequence[BaseMessage]) -> bool:
    """Whether the last reply still has to be answered: by the results of its calls, or by a word when it has none."""
    for answered, message in enumerate(reversed(transcript)):
        if isinstance(message, AIMessage):
            return answered < max(1, len(calls_proposed(message)))
    return False


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
            key=f"{execution_id}:{position}",
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


async def tools_run(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Carry out the calls of the last reply that have no result yet, one after the other."""
    context = runtime.context
    execution_id, role = uuid.UUID(state["execution_id"]), state["role"]
    transcript = await context.transcript(execution_id)
    position = max(index for index, message in enumerate(transcript) if isinstance(message, AIMessage))
    reply = transcript[position]
    assert isinstance(reply, AIMessage)
    calls = calls_proposed(reply)
    if not calls:
        return await _plain_answer(context, role, execution_id, transcript, position)
    # Some of the calls have their results already: the agent may have ended with one of those.
    ended = position + 1 < len(transcript) and await context.ledger.result_load(execution_id) is not None
    tools = tools_for(role, context.offer(role))
    for ordinal, call in enumerate(calls):
        if position + 1 + ordinal < len(transcript):
            continue
        judged = Refused(ENDED) if ended else _judge(tools, call)
        ended = await _call_carry_out(context, role, execution_id, transcript, position, ordinal, call, judged) or ended
    if not ended and refused_in_a_row(transcript, tools) >= REFUSED_REPLIES:
        result = {"summary": ONLY_REFUSED, "unfinished": True}
        async with context.ledger.transaction() as connection:
            await context.ledger.result_set(connection, execution_id, result)
        ended = True
    return {"turn": len(transcript), "ended": ended or len(transcript) > 2 * EXECUTION_TURNS}


def refused_in_a_row(transcript: Sequence[BaseMessage], tools: Mapping[str, Tool[Any]]) -> int:
    """How many of the last replies called something, and nothing that could be carried out."""
    count = 0
    for message in reversed(transcript):
        if isinstance(message, HumanMessage):
            break
        if isinstance(message, AIMessage):
            calls = calls_proposed(message)
            if not calls or any(isinstance(_judge(tools, call), Allowed) for call in calls):
                break
            count += 1
    return count


def route_after_step(state: SessionState) -> str:
    return "end" if state.get("ended") else "step"


def message_normalise(message: AIMessage, position: int) -> AIMessage:
    """The reply as it is stored and sent back: plain, storable, each call with an id of its own."""
    calls, seen = [], set()
    renamed: dict[str, str] = {}
    for ordinal, call in enumerate([*message.tool_calls, *message.invalid_tool_calls]):
        call_id = text_storable(call.get("id") or "")
        if not call_id or call_id in seen or len(call_id) > CALL_ID_LENGTH:
            call_id = f"call_{position}_{ordinal}"
        seen.add(call_id)
        renamed.setdefault(str(call.get("id")), call_id)
        # Providers refuse a conversation in which a tool has any other name.
        name = _NOT_IN_NAMES.sub("_", call.get("name") or "")[:NAME_LENGTH] or "unnamed"
        calls.append({**call, "id": call_id, "name": name})
    valid = json_storable(calls[: len(message.tool_calls)])
    invalid = json_storable(calls[len(message.tool_calls) :])
    return AIMessage(
        content=json_storable(calls_renamed(message.content, renamed)),
        tool_calls=valid,
        invalid_tool_calls=invalid,
        # Whose blocks the content has, where it has some.
        additional_kwargs=json_storable(message.additional_kwargs),
        usage_metadata=message.usage_metadata,
    )


def calls_proposed(reply: AIMessage) -> list[ProposedCall]:
    """The reply's calls in order, those whose arguments could not be read last."""
    proposed = [ProposedCall(str(call["id"]), call["name"], call["args"]) for call in reply.tool_calls]
    for broken in reply.invalid_tool_calls:
        problem = f"{broken.get('error') or 'the call cannot be read'}: {(broken.get('args') or '')[:500]}"
        proposed.append(ProposedCall(str(broken["id"]), broken.get("name") or "", {}, problem))
    return proposed


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


async def _plain_answer(
    context: RunContext, role: str, execution_id: uuid.UUID, transcript: list[BaseMessage], position: int
) -> SessionState:
    """The model spoke and called nothing: ask for a call, and after a few of these take its words for the result."""
    replies = [message for message in transcript if isinstance(message, AIMessage)]
    plain = 0
    nudges = {NUDGE.format(final=final) for final in ("submit_plan", "finish")}
    for said in reversed(transcript):
        # What a person said since begins it anew.
        if isinstance(said, HumanMessage) and said.content not in nudges:
            break
        if isinstance(said, AIMessage):
            if calls_proposed(said):
                break
            plain += 1
    if plain >= PLAIN_ANSWERS:
        summary = str(replies[-1].text).strip()
        async with context.ledger.transaction() as connection:
            await context.ledger.result_set(connection, execution_id, {"summary": summary, "unfinished": True})
        return {"turn": len(transcript), "ended": True}
    final = "submit_plan" if role == "planner" else "finish"
    nudge = HumanMessage(NUDGE.format(final=final))
    if position + 1 == len(transcript):
        async with context.ledger.transaction() as connection:
            await context.ledger.message_insert(connection, execution_id, position + 1, nudge)
        transcript.append(nudge)
    return {"turn": len(transcript)}


def shown(value: Any) -> Any:
    """What an event carries of a reply: long texts are cut, since the conversation's rows hold them whole."""
    if isinstance(value, str):
        return text_cut(value, EVENT_TEXT)
    if isinstance(value, Mapping):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


def _judge(tools: Mapping[str, Tool[Any]], call: ProposedCall) -> Allowed | Refused:
    if call.problem:
        return Refused(call.problem)
    return call_judge(tools=tools, name=call.name, arguments=call.arguments)


async def _call_carry_out(
    context: RunContext,
    role: str,
    execution_id: uuid.UUID,
    transcript: list[BaseMessage],
    position: int,
    ordinal: int,
    call: ProposedCall,
    judged: Allowed | Refused,
) -> bool:
    """Run one call and write its result; whether the agent is done with it."""
    intent = ToolCallIntent(execution_id, position, ordinal, call.provider_call_id, call.name, call.arguments)
    started = Event("ToolStarted", {"call": str(intent.id), "name": intent.name, "arguments": shown(intent.arguments)})
    record = await context.ledger.tool_call_open(intent, started)
    began = time.monotonic()
    # Plain, short, and once in an execution: a model has to write it down again.
    command_id = f"c{position}-{ordinal}" if ordinal else f"c{position}"
    result = await _result_of(context, role, record, judged, command_id)
    if isinstance(result, Question):
        asked = Event(
            "QuestionAsked", {"question": str(intent.id), "text": result.text, "choices": list(result.choices)}
        )
        await context.ledger.tool_call_wait(intent.id, asked, status=SessionStatus.WAITING_INPUT)
        raise SessionSuspended("the agent asked a question")
    ok = result.ok if isinstance(result, Observation) else True
    summary = result.summary if isinstance(result, Observation) else ""
    # Tools keep their own limit; this one is for what a model says itself, such as the name of a tool.
    text = text_storable(text_cut(result.text, OBSERVATION_LIMIT + 1000))
    rules, folders = await folder_rules(context, transcript, intent.arguments)
    if rules:
        text = f"{text}\n\n{text_storable(rules)}"
    message = ToolMessage(
        await _content(context, text, result),
        tool_call_id=call.provider_call_id,
        name=intent.name,
        status="success" if ok else "error",
        artifact={"rules": folders} if folders else None,
    )
    finished = Event(
        "ToolFinished",
        {
            "call": str(intent.id),
            "name": intent.name,
            "ok": ok,
            "summary": (summary or text.strip().partition("\n")[0])[:300],
            "seconds": round(time.monotonic() - began, 3),
        },
    )
    async with context.ledger.transaction(finished) as connection:
        await context.ledger.tool_call_finish(
            connection,
            intent.id,
            ok=ok,
            observation=text,
            edit_format=edit_format_used(call.name, call.arguments),
            well_formed=isinstance(result, Observation) and result.edited,
        )
        await context.ledger.message_insert(connection, execution_id, position + 1 + ordinal, message)
        if isinstance(result, Finish):
            await context.ledger.result_set(connection, execution_id, json_storable(result.result))
    transcript.append(message)
    return isinstance(result, Finish)


async def _content(context: RunContext, text: str, result: Observation | Finish) -> str | list[str | dict[Any, Any]]:
    """What the message says: the text, and references to the images that were seen."""
    images = result.images if isinstance(result, Observation) else ()
    if not images:
        return text
    put = [
        await context.ledger.database.run_in_thread(
            session_image_put, session_id=context.facts.session_id, image=shown.image, name=shown.name
        )
        for shown in images
    ]
    return [{"type": "text", "text": text}, *put]


async def _result_of(
    context: RunContext, role: str, record: ToolCallRecord, judged: Allowed | Refused, command_id: str
) -> Observation | Finish | Question:
    """What came of the call: from its row where that knows, otherwise by running it."""
    if record.status == ToolCallStatus.FINISHED:
        return Observation(record.observation, ok=bool(record.ok))
    if isinstance(judged, Refused):
        return Observation(judged.reason, ok=False, summary=judged.reason)
    if record.status == ToolCallStatus.WAITING:
        raise SessionSuspended("the question has no answer yet")
    if not record.is_new and not judged.tool.may_repeat:
        return Observation(UNKNOWN_OUTCOME, ok=False, summary="interrupted, outcome unknown")

    async def checks_run() -> Observation:
        baseline = await baseline_open(context)
        return checks_observe(await context.site.checks_run(await context.site.snapshot(), baseline.specs))

    tools = ToolContext(
        workspace=await context.site.workspace(),
        checks_run=checks_run,
        command_seconds=context.facts.command_seconds,
        command_id=command_id,
        outputs=context.site.outputs,
        history=context.history,
        page_fetch=context.page_fetch,
        vision=context.vision(role),
    )
    try:
        result: Observation | Finish | Question = await judged.tool.run(tools, judged.arguments)
    except WorkspaceError as error:
        return Observation(str(error), ok=False, summary=str(error).partition("\n")[0])
    return result
