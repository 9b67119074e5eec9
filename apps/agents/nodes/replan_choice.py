"""Whether the plan is to be looked at again before anything else is done.

What gives cause for it is read off the rows: tasks that failed, the reviewer's veto, what people said. Each look says
which causes it was for, so none is looked at twice, whatever is replayed and whether or not the plan was changed.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from apps.agents.models import AgentExecution, SessionEvent, Steering
from apps.agents.nodes.context import RunContext
from apps.planning.types import TaskProgress, TaskStatus

#: How often the plan of one session is looked at again by an agent.
LOOKS = 5
#: Effects of a veto of the reviewer's begin so; the rest of the key is the task's id, ``reason`` in it what was said.
VETO = "veto:"
_LOOK = "replan:"
_NOT_STARTED = frozenset({TaskStatus.PENDING, TaskStatus.BLOCKED})
#: Who carries tasks out. What people say to whoever plans is in the plan already.
_WORKING = ("coder", "researcher", "reviewer")


@dataclass(frozen=True)
class Cause:
    """Something that what has not started may have to follow: ``failed``, ``veto`` or ``steering``, and of what."""

    kind: str
    id: uuid.UUID

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def read(cls, key: str) -> Cause:
        kind, _, identifier = key.partition(":")
        return cls(kind, uuid.UUID(identifier))


async def replan_wanted(context: RunContext, tasks: Sequence[TaskProgress]) -> bool:
    """Whether something has happened that what has not started may have to follow."""
    if any(task.status is TaskStatus.RUNNING for task in tasks):
        # It comes to its end first: what it did may be a reason too.
        return False
    return bool(await causes_open(context, tasks))


async def causes_open(context: RunContext, tasks: Sequence[TaskProgress]) -> list[Cause]:
    """What has happened since the plan was looked at last; nothing where all has begun, or nothing has."""
    if not any(task.status in _NOT_STARTED for task in tasks) or not any(task.attempts for task in tasks):
        return []
    causes = [Cause("failed", task.id) for task in tasks if task.status is TaskStatus.FAILED]
    vetoed = {uuid.UUID(key.removeprefix(VETO)) for key in await context.ledger.effects_load(VETO)}
    causes += [Cause("veto", task.id) for task in tasks if task.id in vetoed]
    causes += [Cause("steering", said.id) for said in await steering_heard(context)]
    if not causes:
        return []
    looked_at = {key for look in (await looks_load(context)).values() for key in look["causes"]}
    return [cause for cause in causes if cause.key not in looked_at]


async def looks_load(context: RunContext) -> dict[int, dict[str, list[str]]]:
    """The looks at the plan that the session has taken, by their number, with what they were for."""
    found = await context.ledger.effects_load(_LOOK)
    return {int(key.removeprefix(_LOOK).partition("#")[0]): result for key, result in found.items()}


async def look_number(context: RunContext) -> int:
    """The number of the look that the session is at, or takes next."""
    return max(await looks_load(context), default=0) + 1


def look_key(context: RunContext, number: int) -> str:
    """The key of the effect that a look came to."""
    return context.facts.turn_key(f"{_LOOK}{number}")


def look_begin_key(context: RunContext, number: int) -> str:
    """The key of what a look is for, which is settled when it begins."""
    return context.facts.turn_key(f"replan-begin:{number}")


async def steering_heard(context: RunContext, execution_ids: Collection[uuid.UUID] | None = None) -> list[Steering]:
    """What people have said that these executions have heard, in order; None: those that carry tasks out."""
    return await context.ledger.database.run_in_thread(
        _steering_heard, context.facts.session_id, context.facts.turn, execution_ids
    )


def _steering_heard(
    session_id: uuid.UUID, turn: int, execution_ids: Collection[uuid.UUID] | None = None
) -> list[Steering]:
    if execution_ids is None:
        working = AgentExecution.objects.filter(session_id=session_id, role__in=_WORKING, retired=None)
        execution_ids = set(working.values_list("id", flat=True))
    told = SessionEvent.objects.filter(session_id=session_id, type="SteeringDelivered").order_by("seq")
    # What a rewind took back may have been said and heard once more: the last time counts.
    last = {row.payload["steering"]: row.payload for row in told}
    heard_by = {
        said: uuid.UUID(payload["execution"])
        for said, payload in last.items()
        if payload["execution"] and payload["turn"] == turn
    }
    # How a person has changed a task is in the plan already.
    said = Steering.objects.filter(
        session_id=session_id, retired=None, delivered_seq__isnull=False, task_id=None
    ).order_by("seq")
    return [each for each in said if heard_by.get(str(each.id)) in execution_ids]
