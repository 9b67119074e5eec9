"""A plan in plain text, as a planner reads it: keys, titles, what depends on what, and how far each task is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.types import TaskState

_INSTRUCTIONS = 1_000


def plan_outline(document: PlanDoc, states: Mapping[str, TaskState]) -> str:
    """Features and tasks in order, each task with all that it says but for the end of long instructions."""
    lines = [f"{document.summary} (intent: {document.intent.value})"]
    for feature in document.features:
        lines += _feature(feature, states, "")
    return "\n".join(lines)


def _feature(feature: FeatureDoc, states: Mapping[str, TaskState], indent: str) -> Iterator[str]:
    needs = f", depends on {', '.join(feature.depends_on)}" if feature.depends_on else ""
    yield f"{indent}- feature {feature.key}: {feature.title} ({feature.priority.value}, {feature.effort.value}{needs})"
    if feature.description:
        yield f"{indent}  {_one_line(feature.description)}"
    for task in feature.tasks:
        yield from _task(task, states.get(task.key, TaskState()), f"{indent}  ")
    for inner in feature.features:
        yield from _feature(inner, states, f"{indent}  ")


def _task(task: TaskDoc, state: TaskState, indent: str) -> Iterator[str]:
    where = "skipped" if task.skipped else state.status.value
    yield f"{indent}- task {task.key} [{where}]: {task.title}"
    facts = [
        f"depends on {', '.join(task.depends_on)}" if task.depends_on else "",
        f"files {', '.join(task.files)}" if task.files else "",
        f"creates {', '.join(task.creates)}" if task.creates else "",
        f"checks {'; '.join(check.command for check in task.checks)}" if task.checks else "",
        f"held: {task.blocked_reason}" if task.blocked_reason else "",
        f"for a {task.agent_type.value}" if task.agent_type.value != "coder" else "",
    ]
    if told := "; ".join(fact for fact in facts if fact):
        yield f"{indent}  {told}"
    if task.instructions:
        yield f"{indent}  {_one_line(task.instructions)}"


def _one_line(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _INSTRUCTIONS else f"{plain[:_INSTRUCTIONS]} …"
