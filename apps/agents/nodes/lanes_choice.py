"""Whether tasks of the plan are to be worked on side by side."""

from __future__ import annotations

from collections.abc import Sequence

from apps.agents.nodes.context import RunContext
from apps.agents.nodes.replan_choice import replan_wanted
from apps.planning.scheduling import SATISFIED
from apps.planning.types import TaskProgress, TaskStatus


async def lanes_wanted(context: RunContext, tasks: Sequence[TaskProgress]) -> bool:
    """Whether tasks run side by side already, or two or more can start and the session may do so many at a time."""
    # A follow-up goes on with one conversation.
    if context.facts.lanes < 2 or context.facts.turn:
        return False
    running = [task for task in tasks if task.status is TaskStatus.RUNNING]
    if running:
        # One that was begun in the session's own worktree ends there.
        return bool(await lanes_begun(context, running))
    return len(tasks_startable(tasks)) > 1 and not await replan_wanted(context, tasks)


def tasks_startable(tasks: Sequence[TaskProgress]) -> list[TaskProgress]:
    """Those that nothing holds up, in the plan's order."""
    satisfied = {task.key for task in tasks if task.status in SATISFIED}
    return [task for task in tasks if task.status is TaskStatus.PENDING and satisfied.issuperset(task.needs)]


async def lanes_begun(context: RunContext, tasks: Sequence[TaskProgress]) -> list[TaskProgress]:
    """Those of the tasks that were begun in a worktree of their own."""
    found = []
    for task in tasks:
        begun = await context.ledger.effect_find(f"begin:{task.id}")
        if begun is not None and begun.get("lane"):
            found.append(task)
    return found
