"""What one execution of an agent may take by its profile, apart from what the session as a whole may.

Counted from where the execution began, or from where a person had it go on. An agent that carries out or reviews a task
is ended there, as one that came to no end of its own; one on which all of the session waits (it plans, or it is the
session's only one) pauses the session instead, and resuming begins the count anew.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from django.db.models import DurationField, ExpressionWrapper, F, Sum
from langchain_core.messages import AIMessage, BaseMessage

from apps.agents.models import ExecutionMessage, ToolCall
from apps.agents.nodes.context import Meter, RunContext, SessionState, SessionSuspended
from apps.agents.services.server_words import server_says, server_word
from apps.agents.types import Event, Reason
from apps.usage.selectors import calls_seconds

PAUSED = (
    "The session was paused here, since you had taken all that one agent may: {message}. A person has let it go on, and"
    " the count begins anew. Come to an end."
)
NEXT_STEP = "resume it, which begins the count anew, or say something to it first (archon say)"


@asynccontextmanager
async def execution_metered(
    context: RunContext, execution_id: uuid.UUID, transcript: Sequence[BaseMessage]
) -> AsyncIterator[Meter]:
    """Count the time of a step; what other runs of the session have counted is read from the rows once."""
    meter = context.meters.get(execution_id)
    start = await _start(context, execution_id, transcript)
    if meter is None or meter.start != start:
        seconds = 0.0
        if any(isinstance(said, AIMessage) for said in transcript[start:]):
            seconds = await context.ledger.database.run_in_thread(
                _seconds_so_far, context.facts.session_id, execution_id, start
            )
        meter = context.meters[execution_id] = Meter(start, seconds)
    began = time.monotonic()
    try:
        yield meter
    finally:
        meter.seconds += time.monotonic() - began


async def execution_ends(
    context: RunContext, state: SessionState, execution_id: uuid.UUID, transcript: list[BaseMessage], meter: Meter
) -> bool:
    """Whether the execution has taken all that it may, and so was ended; raises SessionSuspended where it is paused."""
    role = state["role"]
    profile = context.profile(role)
    replies = [said for said in transcript[meter.start :] if isinstance(said, AIMessage)]
    tokens = sum(said.usage_metadata["total_tokens"] for said in replies if said.usage_metadata)
    taken = (
        ("steps", len(replies), profile.steps),
        ("tokens", tokens, profile.tokens),
        ("seconds", int(meter.seconds), profile.seconds),
    )
    over = next((each for each in taken if each[1] >= each[2]), None)
    if over is None:
        return False
    name, spent, most = over
    message = f"the {role} has taken {spent:,} {name} of the {most:,} that one agent may"
    reached = Event(
        "AgentLimitReached",
        {"execution": str(execution_id), "role": role, "limit": name, "maximum": most, "spent": spent},
    )
    if not state.get("task_id"):
        reason = Reason("agent_limit_reached", message, NEXT_STEP, {"limit": name, "maximum": most, "spent": spent})
        word = server_says("limit_pause", PAUSED.format(message=message))
        await context.ledger.execution_pause(execution_id, len(transcript), word, reason, reached)
        context.conversation_forget(execution_id)
        raise SessionSuspended(message)
    said = str(replies[-1].text).strip() if replies else ""
    async with context.ledger.transaction(reached) as connection:
        result = {"summary": said, "unfinished": True, "reason": message}
        await context.ledger.result_set(connection, execution_id, result)
    return True


async def _start(context: RunContext, execution_id: uuid.UUID, transcript: Sequence[BaseMessage]) -> int:
    """The first message that counts: after the last pause for this, or where a follow-up had it go on."""
    for index in range(len(transcript) - 1, -1, -1):
        if server_word(transcript[index]) == "limit_pause":
            return index + 1
    if not context.facts.turn:
        return 0
    known = await context.ledger.effect_find(context.facts.turn_key("conversation"))
    return int(known.get("from", 0)) if known and known["execution"] == str(execution_id) else 0


def _seconds_so_far(session_id: uuid.UUID, execution_id: uuid.UUID, start: int) -> float:
    """What its calls of the model and of tools have taken since that message; waits for a person don't count."""
    first = ExecutionMessage.objects.filter(execution=execution_id, position__gte=start).order_by("position").first()
    if first is None:
        return 0.0
    calls = ToolCall.objects.filter(execution=execution_id, created_at__gte=first.created_at, approval__isnull=True)
    took = ExpressionWrapper(F("finished_at") - F("created_at"), output_field=DurationField())
    spent = calls.exclude(name="ask_user").aggregate(sum=Sum(took))["sum"]
    models = calls_seconds(scope_id=session_id, key_begins=f"{execution_id}:", since=first.created_at)
    return (spent.total_seconds() if spent else 0.0) + models
