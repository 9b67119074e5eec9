"""A plan as Markdown: to be read, edited and handed on. ``plan_from_markdown`` is in :mod:`markdown_reading`.

A heading for each feature, a checkbox for each task, what else they say as lists under them. What is written is read
back exactly; the format is in docs/reference/plans.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.markdown_notes import NOTE, TASK_NOTES, note_known
from apps.planning.markdown_reading import MarkdownPlan, plan_from_markdown
from apps.planning.markdown_text import (
    KEY_MARK,
    NAME_MARK,
    block_write,
    code_write,
    indented_write,
    keys_write,
    line_write,
    quoted_write,
    title_write,
)
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskStatus, TaskType

__all__ = ["MarkdownPlan", "plan_from_markdown", "plan_to_markdown"]

#: Headings that Markdown has below the plan's own, and how long a summary may be to be that.
_HEADINGS, _SUMMARY = 6, 200


def plan_to_markdown(
    document: PlanDoc,
    *,
    statuses: Mapping[str, TaskStatus] | None = None,
    plan_id: uuid.UUID | None = None,
    version: int | None = None,
) -> str:
    """The plan, with how far its tasks are where that is given (it is for people: reading it back changes nothing).

    ``plan_id`` and ``version`` are put into a comment, so that whoever reads it back knows what was edited.
    """
    lines: list[str] = []
    if plan_id is not None:
        lines += [f"<!-- archon-plan: {plan_id} version {version or 1} -->", ""]
    lines += _plan(document)
    for placed in document.placed_features:
        lines += ["", *_feature(placed.feature, len(placed.within), statuses or {})]
    return "\n".join(lines) + "\n"


def _plan(document: PlanDoc) -> Iterator[str]:
    summary = title_write(document.summary)
    is_title = not summary.startswith('"') and len(summary) <= _SUMMARY
    yield f"# {summary}" if is_title else "# Plan"
    notes = [] if document.intent is Intent.FEATURE else [f"- intent: {document.intent.value}"]
    yield from _with_text(notes, "" if is_title else document.summary)


def _feature(feature: FeatureDoc, depth: int, statuses: Mapping[str, TaskStatus]) -> Iterator[str]:
    level = depth + 2
    yield f"{'#' * min(level, _HEADINGS)} {feature.key}{KEY_MARK}{title_write(feature.title)}"
    notes = []
    if level > _HEADINGS:
        notes.append(f"- level: {level}")
    if feature.priority is not Priority.NORMAL:
        notes.append(f"- priority: {feature.priority.value}")
    if feature.effort is not Effort.MEDIUM:
        notes.append(f"- effort: {feature.effort.value}")
    if feature.depends_on:
        notes.append(f"- needs: {keys_write(feature.depends_on)}")
    if feature.blocked_reason:
        notes.append(f"- held: {line_write(feature.blocked_reason)}")
    yield from _with_text(notes, feature.description)
    for number, task in enumerate(feature.tasks):
        if number == 0 or task.instructions or feature.tasks[number - 1].instructions:
            yield ""
        yield from _task(task, statuses.get(task.key))


def _with_text(notes: list[str], text: str) -> Iterator[str]:
    """Notes, then the text that they are beside."""
    block = block_write(text) if text else []
    if block is None:
        notes, block = [*notes, f"- text: {quoted_write(text)}"], []
    for part in (notes, block):
        if part:
            yield ""
            yield from part


def _task(task: TaskDoc, status: TaskStatus | None) -> Iterator[str]:
    mark = "x" if task.skipped or status is TaskStatus.DONE else " "
    yield f"- [{mark}] {task.key}{KEY_MARK}{title_write(task.title)}"
    if task.type is not TaskType.CODE:
        yield f"  - type: {task.type.value}"
    if task.agent_type is not TaskAgent.CODER:
        yield f"  - agent: {task.agent_type.value}"
    if task.depends_on:
        yield f"  - needs: {keys_write(task.depends_on)}"
    for name, paths in (("files", task.files), ("creates", task.creates)):
        if paths:
            yield f"  - {name}: {', '.join(code_write(path) for path in paths)}"
    for check in task.checks:
        name = f"{NAME_MARK}{line_write(check.name)}" if check.name else ""
        yield f"  - check: {code_write(check.command)}{name}"
    if task.blocked_reason:
        yield f"  - held: {line_write(task.blocked_reason)}"
    if told := _status(task, status):
        yield f"  - status: {told}"
    if task.instructions:
        note = NOTE.match(task.instructions.partition("\n")[0])
        # What begins as a note does would be read as one.
        block = None if note and note_known(note[1], TASK_NOTES) else indented_write(task.instructions)
        if block is None:
            yield f"  - text: {quoted_write(task.instructions)}"
        else:
            yield ""
            yield from block


def _status(task: TaskDoc, status: TaskStatus | None) -> str:
    words = [] if status in (None, TaskStatus.PENDING, TaskStatus.SKIPPED) else [str(status.value)]
    return ", ".join([*words, *(["skipped"] if task.skipped else [])])
