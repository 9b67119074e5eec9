"""An agent that goes round in circles: told so, and paused when that doesn't help."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.conf import settings

from apps.agents.nodes.context import RunContext, SessionSuspended
from apps.agents.services.loop_guard import Loop, loop_find, warned_since
from apps.agents.services.server_words import server_says
from apps.agents.types import Event, Reason

WARNING = (
    "You are going round in circles: {what}, {repeats} times in a row. Doing it once more won't help. Think about why"
    " it leads nowhere and take another way; if there is none, say so and end your work."
)
PAUSED = (
    "The session was paused here, since you went round in circles: {what}, {repeats} times in a row. A person has let"
    " it go on. Take another way than before."
)
NEXT_STEP = (
    "look at its last steps, then tell it what to do instead (archon say) or resume it, which begins the count anew"
)


async def loop_watch(context: RunContext, execution_id: uuid.UUID, *, is_excused: Callable[[], bool]) -> None:
    """Warn an agent that repeats itself, once; pause the session when it goes on. Raises SessionSuspended then.

    ``is_excused``: what it repeats has had consequences of its own.

    Comes before a step, so that it doesn't matter where within the last one a worker died.
    """
    limit = settings.ARCHON_LOOP_LIMIT
    transcript = await context.transcript(execution_id)
    loop = loop_find(transcript, limit=limit) if limit else None
    if loop is None:
        return
    if loop.is_over and not is_excused():
        await _pause(context, execution_id, len(transcript), loop)
    if warned_since(transcript, loop):
        return
    warning = server_says("loop_warning", WARNING.format(what=loop.what, repeats=loop.repeats))
    warned = Event(
        "LoopWarned",
        {"execution": str(execution_id), "kind": loop.kind, "what": loop.what, "repeats": loop.repeats},
    )
    async with context.ledger.transaction(warned) as connection:
        await context.ledger.message_insert(connection, execution_id, len(transcript), warning)
    transcript.append(warning)


async def _pause(context: RunContext, execution_id: uuid.UUID, position: int, loop: Loop) -> None:
    reason = Reason(
        "loop_detected",
        f"the agent goes round in circles: {loop.what}, {loop.repeats} times in a row",
        NEXT_STEP,
    )
    message = server_says("loop_pause", PAUSED.format(what=loop.what, repeats=loop.repeats))
    # In one transaction: the word begins the count anew, and a pause that came without it would come again at once.
    await context.ledger.execution_pause(execution_id, position, message, reason)
    context.conversation_forget(execution_id)
    raise SessionSuspended("the agent went round in circles")
