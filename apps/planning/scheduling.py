"""What of a plan can start, what can't and why: from its document and how far its tasks are. No rows, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from apps.planning.document import PlacedTask, PlanDoc
from apps.planning.types import TaskState, TaskStatus

#: A task that needs one of these is not held up by it.
SATISFIED = frozenset({TaskStatus.DONE, TaskStatus.SKIPPED})


@dataclass(frozen=True)
class Standing:
    """Where a task is, as the plan and the other tasks have it."""

    status: TaskStatus
    blocked_reason: str = ""


def tasks_settle(document: PlanDoc, states: Mapping[str, TaskState]) -> dict[str, Standing]:
    """Where each task is, by key, in the plan's order.

    What runs, is done or has failed stands as its state says, unless the plan does without a failed one. What has not
    started is skipped or held where the plan says so, blocked where something that it needs has failed or is blocked,
    else pending. Tasks in a cycle are blocked: a checked plan has none.
    """
    settled: dict[str, Standing] = {}
    under_way: set[str] = set()
    placed = {each.task.key: each for each in document.placed_tasks}

    def settle(key: str) -> Standing:
        if key in settled:
            return settled[key]
        if key in under_way:
            return Standing(TaskStatus.BLOCKED, "it needs itself")
        under_way.add(key)
        standing = _standing(placed[key], states.get(key, TaskState()))
        if standing.status is TaskStatus.PENDING:
            for needed in document.needs[key]:
                other = settle(needed)
                if other.status in (TaskStatus.FAILED, TaskStatus.BLOCKED):
                    state = "failed" if other.status is TaskStatus.FAILED else "is blocked"
                    standing = Standing(TaskStatus.BLOCKED, f"{needed}, which it needs, {state}")
                    break
        under_way.discard(key)
        settled[key] = standing
        return standing

    return {key: settle(key) for key in placed}


def tasks_ready(document: PlanDoc, states: Mapping[str, TaskState]) -> tuple[str, ...]:
    """The tasks that can start now, in the plan's order."""
    settled = tasks_settle(document, states)
    return tuple(
        key
        for key, standing in settled.items()
        if standing.status is TaskStatus.PENDING
        and all(settled[needed].status in SATISFIED for needed in document.needs[key])
    )


def status_roll_up(statuses: Iterable[TaskStatus]) -> TaskStatus:
    """What a feature is at, by its tasks and the features in it; one without any is pending."""
    found = list(statuses)
    if not found:
        return TaskStatus.PENDING
    if all(status is TaskStatus.SKIPPED for status in found):
        return TaskStatus.SKIPPED
    if all(status in SATISFIED for status in found):
        return TaskStatus.DONE
    if TaskStatus.RUNNING in found:
        return TaskStatus.RUNNING
    if TaskStatus.FAILED in found:
        return TaskStatus.FAILED
    if TaskStatus.BLOCKED in found:
        return TaskStatus.BLOCKED
    return TaskStatus.RUNNING if TaskStatus.DONE in found else TaskStatus.PENDING


def _standing(placed: PlacedTask, state: TaskState) -> Standing:
    task = placed.task
    if state.status in (TaskStatus.RUNNING, TaskStatus.DONE):
        return Standing(state.status)
    if task.skipped:
        return Standing(TaskStatus.SKIPPED)
    if state.status is TaskStatus.FAILED:
        return Standing(TaskStatus.FAILED)
    held = task.blocked_reason or next((each.blocked_reason for each in placed.within if each.blocked_reason), "")
    return Standing(TaskStatus.BLOCKED, held) if held else Standing(TaskStatus.PENDING)
