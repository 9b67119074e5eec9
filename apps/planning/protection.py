"""What a new version of a plan must leave as it is: finished work is never lost, and what runs is not pulled away."""

from __future__ import annotations

from collections.abc import Mapping

from apps.planning.checking import Problem
from apps.planning.document import PlanDoc, TaskDoc
from apps.planning.types import TaskState, TaskStatus

_NOT_FAILED = frozenset({TaskStatus.DONE, TaskStatus.RUNNING})
#: What of a task that runs may be changed: its agent is told.
_WHILE_RUNNING = frozenset({"title", "instructions", "files", "creates", "checks"})


def revision_problems(before: PlanDoc, after: PlanDoc, states: Mapping[str, TaskState]) -> list[Problem]:
    """Why ``after`` can't follow ``before``, with the tasks as far as ``states`` says; empty: it can.

    A task that was done stays, word for word. One that runs stays, with what its agent has to go by. One that failed
    stays, and may be skipped: what is to be tried anew is a task of its own. A task may move within the plan.
    """
    problems: list[Problem] = []
    for key, task in before.tasks.items():
        state = states.get(key, TaskState())
        if not state.started:
            continue
        now = after.tasks.get(key)
        if now is None:
            problems.append(_told(key, f"task {key} {_was(state)}: it can't be removed"))
            continue
        changed = _changed(task, now)
        allowed = _allowed(state)
        if changed - allowed:
            fields = ", ".join(sorted(changed - allowed))
            problems.append(_told(key, f"task {key} {_was(state)}: {fields} can't be changed"))
    for key, task in after.tasks.items():
        for needed in task.depends_on:
            other, state = after.tasks.get(needed), states.get(needed, TaskState())
            given_up = other is not None and other.skipped and state.started and state.status not in _NOT_FAILED
            if given_up and not states.get(key, TaskState()).started and not task.skipped:
                message = f"task {key} depends on {needed}, which failed and is done without"
                problems.append(
                    Problem(f"tasks.{key}.depends_on", "depends_on_failed", message, "name what takes its place")
                )
    return problems


def _allowed(state: TaskState) -> frozenset[str]:
    if state.status is TaskStatus.DONE:
        return frozenset()
    if state.status is TaskStatus.RUNNING:
        return _WHILE_RUNNING
    return frozenset({"skipped"})


def _changed(before: TaskDoc, after: TaskDoc) -> set[str]:
    return {name for name in type(before).model_fields if getattr(before, name) != getattr(after, name)}


def _was(state: TaskState) -> str:
    words = {TaskStatus.DONE: "is done", TaskStatus.RUNNING: "is being worked on"}
    return words.get(state.status, "was begun and failed")


def _told(key: str, message: str) -> Problem:
    return Problem(f"tasks.{key}", "started", message, "add a task of its own for what is to be done otherwise")
