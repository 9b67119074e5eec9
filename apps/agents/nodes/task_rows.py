"""What the rows say of a plan's tasks and of the session's attempts at them; nothing is changed."""

from __future__ import annotations

import dataclasses
import uuid

from apps.agents.nodes.context import RunContext
from apps.agents.nodes.follow_up import follow_up_head
from apps.planning.scheduling import SATISFIED
from apps.planning.selectors import plan_progress
from apps.planning.types import PlanProgress, TaskAgent, TaskProgress, TaskStatus

#: Why a commit that passed is worked on again, in the effect of that: for the reviewer, or as it could not be merged.
SENT_BACK, NOT_MERGED = "review", "merge"


def is_reading(task: TaskProgress) -> bool:
    """Whether the task's agent only reads: it makes no commit, and what it found out is its result."""
    return task.agent_type is not TaskAgent.CODER


async def tasks_load(context: RunContext) -> list[TaskProgress]:
    """The plan's tasks in its order; in a follow-up, those that it has brought, needing what else isn't done yet."""
    return tasks_of(context, await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id))


def tasks_of(context: RunContext, progress: PlanProgress) -> list[TaskProgress]:
    """The tasks that the session is at, as :func:`tasks_load`."""
    if not context.facts.turn:
        return list(progress.tasks)
    own = context.facts.follow_up_key
    tasks = [task for feature in progress.features if feature.key == own for task in feature.tasks]
    past = {task.key for task in progress.tasks if task.status in SATISFIED} - {task.key for task in tasks}
    return [dataclasses.replace(task, needs=tuple(key for key in task.needs if key not in past)) for task in tasks]


async def task_load(context: RunContext, task_id: uuid.UUID) -> TaskProgress:
    """A task of the session's plan as it is now."""
    return next(task for task in await tasks_load(context) if task.id == task_id)


async def attempt_of(context: RunContext, task: TaskProgress) -> int:
    """The attempt that the task is at: those before it were sent back to the coder."""
    attempt = 1
    while await context.ledger.effect_find(f"retry:{task.id}:{attempt}") is not None:
        attempt += 1
    return attempt


async def failed_in_a_row(context: RunContext, task_id: uuid.UUID, attempt: int) -> int:
    """How many commits up to this one failed since the task began, or since one passed that was sent back."""
    failed = 1
    while attempt - failed >= 1:
        sent = await context.ledger.effect_find(f"retry:{task_id}:{attempt - failed}")
        if sent is None or sent.get("why") in (SENT_BACK, NOT_MERGED):
            break
        failed += 1
    return failed


async def head_commit(context: RunContext) -> str:
    """Where the work stands: the last accepted task's commit, or what the session (or turn) began with."""
    tasks = [task for task in await tasks_load(context) if task.status is TaskStatus.DONE and not is_reading(task)]
    own = {f"accept:{task.id}": task for task in tasks}
    last = await context.ledger.effect_last(list(own))
    if last is not None:
        key, accepted = last
        return str(accepted.get("commit") or own[key].commit)
    return await follow_up_head(context) if context.facts.turn else context.facts.base_commit
