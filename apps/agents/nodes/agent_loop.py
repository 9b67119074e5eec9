"""An agent at work: a step is a reply of its model and the calls in it.

Where it is stands in the conversation's rows, so taking a step again after a crash repeats nothing that was written: a
reply that stands is not asked for again (``model_turn``), a finished call is not made again (``tool_turn``).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.execution_limits import execution_ends, execution_metered
from apps.agents.nodes.loop_watch import loop_watch
from apps.agents.nodes.model_turn import model_call
from apps.agents.nodes.replies import calls_proposed, reply_open
from apps.agents.nodes.steering import steering_hear
from apps.agents.nodes.tool_turn import call_carry_out, proposal_judge
from apps.agents.services.server_words import is_persons, nudge_for
from apps.agents.tools.base import Tool
from apps.agents.tools.catalogue import tools_for
from apps.agents.tools.policy import Allowed, Refused
from apps.usage.errors import ModelCallFailed
from integrations.llm_providers.types import CallFailure

#: Answers without a tool call in a row before the agent's last words are taken for its result.
PLAIN_ANSWERS = 3
#: Replies in a row whose calls were all refused (no such tool, wrong arguments) before another model of the role is
#: asked, and before the session is paused.
REFUSED_BEFORE_FALLBACK = 3
REFUSED_REPLIES = 5
ONLY_REFUSED = CallFailure(
    kind="bad_calls",
    message=f"the model's last {REFUSED_REPLIES} replies called only tools that there aren't, or with arguments that"
    " cannot be read",
    next_step="Resume to let it try once more; another model, or another form of edits or of tool calls for this one,"
    " may do better.",
)
ENDED = "not carried out: an earlier call of the same reply ended the work"


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
    async with execution_metered(context, execution_id, transcript) as meter:
        if not reply_open(transcript) and await execution_ends(context, state, execution_id, transcript, meter):
            await context.site.commands_end()
            return {"turn": len(transcript), "ended": True}
        return await _step(state, runtime, execution_id, transcript)


async def _step(
    state: SessionState, runtime: Runtime[RunContext], execution_id: uuid.UUID, transcript: list[BaseMessage]
) -> SessionState:
    context = runtime.context
    if not reply_open(transcript):
        if not state.get("round"):
            # What a person says while a commit is reviewed is for whoever goes on with the work.
            await steering_hear(context, execution_id, transcript, task_id=task_of(state))
        tools = tools_for(state["role"], context.offer(state["role"]))
        refused = partial(refused_in_a_row, transcript, tools)
        await loop_watch(context, execution_id, is_excused=lambda: refused() >= REFUSED_REPLIES)
        await model_call(state, runtime, is_stuck=_is_stuck(context, state["role"], transcript))
    after = await tools_run(state, runtime)
    if after.get("ended"):
        await context.site.commands_end()
    return after


def task_of(state: SessionState) -> uuid.UUID | None:
    """The task that the agent works on; None: on the session as a whole."""
    return uuid.UUID(state["task_id"]) if state.get("task_id") else None


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
        return await _plain_answer(context, state, execution_id, transcript, position)
    # Some of the calls have their results already: the agent may have ended with one of those.
    ended = position + 1 < len(transcript) and await context.ledger.result_load(execution_id) is not None
    tools = tools_for(role, context.offer(role))
    for ordinal, call in enumerate(calls):
        if position + 1 + ordinal < len(transcript):
            continue
        context.hand_over_if_asked()
        judged = Refused(ENDED) if ended else proposal_judge(tools, call)
        carried_out = await call_carry_out(
            context, role, execution_id, transcript, position, ordinal, call, judged, task_id=task_of(state)
        )
        ended = carried_out or ended
    if not ended and refused_in_a_row(transcript, tools) >= REFUSED_REPLIES:
        raise ModelCallFailed(ONLY_REFUSED)
    return {"turn": len(transcript), "ended": ended}


def _is_stuck(context: RunContext, role: str, transcript: Sequence[BaseMessage]) -> bool:
    """Whether the role's model has failed to make a call that can be carried out, and there is another one."""
    if not context.model_for(role).fallbacks:
        return False
    return refused_in_a_row(transcript, tools_for(role, context.offer(role))) >= REFUSED_BEFORE_FALLBACK


def refused_in_a_row(transcript: Sequence[BaseMessage], tools: Mapping[str, Tool[Any]]) -> int:
    """How many of the last replies called something, and nothing that could be carried out."""
    count = 0
    for message in reversed(transcript):
        if is_persons(message):
            break
        if isinstance(message, AIMessage):
            calls = calls_proposed(message)
            if not calls or any(isinstance(proposal_judge(tools, call), Allowed) for call in calls):
                break
            count += 1
    return count


def route_after_step(state: SessionState) -> str:
    return "end" if state.get("ended") else "step"


async def _plain_answer(
    context: RunContext, state: SessionState, execution_id: uuid.UUID, transcript: list[BaseMessage], position: int
) -> SessionState:
    """The model spoke and called nothing: ask for a call, and after a few of these take its words for the result.

    Not while somebody has written to it: then it goes on with that.
    """
    replies = [message for message in transcript if isinstance(message, AIMessage)]
    plain = 0
    for said in reversed(transcript):
        # What a person said since begins it anew.
        if is_persons(said):
            break
        if isinstance(said, AIMessage):
            if calls_proposed(said):
                break
            plain += 1
    if plain >= PLAIN_ANSWERS:
        summary = str(replies[-1].text).strip()
        async with context.ledger.transaction() as connection:
            unheard = await context.ledger.steering_load(connection, task_id=task_of(state))
            ends = bool(state.get("round")) or not unheard
            if ends:
                await context.ledger.result_set(connection, execution_id, {"summary": summary, "unfinished": True})
        if ends:
            return {"turn": len(transcript), "ended": True}
    nudge = nudge_for(state["role"], reviews=bool(state.get("round")))
    if position + 1 == len(transcript):
        async with context.ledger.transaction() as connection:
            await context.ledger.message_insert(connection, execution_id, position + 1, nudge)
        transcript.append(nudge)
    return {"turn": len(transcript)}
