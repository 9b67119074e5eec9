"""What whoever looks at a plan again is told: the goal, what has happened, and the plan as it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import HumanMessage

from apps.agents.nodes.context import RunContext
from apps.agents.nodes.materials import brief_message, materials_read
from apps.agents.nodes.replan_choice import VETO, Cause, steering_heard
from apps.agents.nodes.task_rows import tasks_load
from apps.agents.tools.base import text_cut
from apps.planning.document import PlanDoc, TaskDoc
from apps.planning.models import Plan
from apps.planning.selectors import plan_document, plan_progress
from apps.planning.types import PlanProgress, TaskProgress, TaskStatus

#: Characters of what one task is to do, of what it came to, of what the checks said of it, and of a word of a person's.
_INSTRUCTIONS, _RESULT, _CHECKS, _WORD = 1_500, 800, 4_000, 4_000
#: Tasks whose failure is told in detail, and characters of the whole plan.
_DETAILED, _PLAN = 5, 40_000


async def replan_brief(context: RunContext, causes: Sequence[Cause]) -> HumanMessage:
    """The opening of a look at the plan, for these causes."""
    tasks = {task.id: task for task in await tasks_load(context)}
    happened = [cause_told(cause, tasks.get(cause.id)) for cause in causes]
    parts = [
        f"Look at the plan again: {'; '.join(happened)}.",
        f"Goal:\n{context.facts.goal}",
        await plan_told(context),
        *[told async for told in _failures_told(context, [tasks[c.id] for c in causes if c.id in tasks])],
        await _steering_told(context),
        *context.site.notes,
        "Call revise_plan where what has not started has to be otherwise now, keep_plan where it serves as it is.",
    ]
    return brief_message(parts, await materials_read(context, turn=0))


def cause_told(cause: Cause, task: TaskProgress | None) -> str:
    """A cause in a few words."""
    if task is None:
        return "the person has said something"
    if cause.kind == "veto":
        return f"the reviewer does not agree with {task.key}"
    return f"{task.key} is blocked" if is_blocked(task) else f"{task.key} failed"


def is_blocked(task: TaskProgress) -> bool:
    """Whether its agent left the task since something else has to change first."""
    return task.status is TaskStatus.FAILED and task.result.startswith("blocked: ")


async def plan_told(context: RunContext) -> str:
    """The plan as it is now, with how far each task is."""
    document, progress = await context.ledger.database.run_in_thread(_plan_load, context)
    tasks = {task.key: task for task in progress.tasks}
    lines = [f"The plan (version {progress.version}): {document.summary}"]
    for placed in document.placed_features:
        indent = "  " * len(placed.within)
        needs = f"; needs {', '.join(placed.feature.depends_on)}" if placed.feature.depends_on else ""
        lines.append(f"{indent}{placed.feature.key}: {placed.feature.title}{needs}")
        for task in placed.feature.tasks:
            lines += (f"{indent}  {line}" for line in _task_told(task, tasks[task.key]))
    return text_cut("\n".join(lines), _PLAN)


def _plan_load(context: RunContext) -> tuple[PlanDoc, PlanProgress]:
    plan = Plan.objects.get(id=context.facts.plan_id)
    return plan_document(plan), plan_progress(plan.id)


def _task_told(doc: TaskDoc, task: TaskProgress) -> Iterator[str]:
    state = task.status.value
    if task.commit:
        state += f", commit {task.commit[:10]}"
    if task.blocked_reason:
        state += f": {task.blocked_reason}"
    yield f"- {doc.key} [{state}] {doc.title}"
    if task.attempts:
        if task.result:
            yield f"  came to: {_line(task.result, _RESULT)}"
        return
    about = {
        "agent_type": "" if doc.agent_type.value == "coder" else doc.agent_type.value,
        "needs": ", ".join(doc.depends_on),
        "files": ", ".join(doc.files),
        "creates": ", ".join(doc.creates),
        "checks": "; ".join(f"`{check.command}`" for check in doc.checks),
    }
    yield from (f"  {name}: {value}" for name, value in about.items() if value)
    if doc.instructions and not doc.skipped:
        yield f"  {_line(doc.instructions, _INSTRUCTIONS)}"


async def _failures_told(context: RunContext, tasks: Sequence[TaskProgress]) -> Any:
    """What is known of each task that gave cause for the look."""
    for task in tasks[:_DETAILED]:
        vetoed = await context.ledger.effect_find(f"{VETO}{task.id}")
        verified = await context.ledger.effect_find(f"verify:{task.id}:{task.attempts}")
        parts = []
        if is_blocked(task):
            parts.append(f"Its agent says: {task.result}")
        elif verified is not None:
            parts.append(_verdict_told(verified))
        if vetoed is not None:
            parts.append(f"The reviewer says: {vetoed.get('reason', '')}")
        findings = [
            f"- {found.get('path')}:{found.get('line')} ({found.get('severity')}) {found.get('comment')}"
            for found in task.findings
            if not found.get("resolved")
        ]
        if findings:
            parts.append("What the reviewer found:\n" + "\n".join(findings))
        if parts:
            yield text_cut(f"Of {task.key}, {task.title}:\n" + "\n".join(parts), _CHECKS)


def _verdict_told(verified: Mapping[str, Any]) -> str:
    said = f"Its agent says: {_line(str(verified['summary']), _RESULT)}\n" if verified.get("summary") else ""
    return f"{said}The server's checks on its last commit:\n{verified['observation']}"


async def _steering_told(context: RunContext) -> str:
    said = await steering_heard(context)
    words = "\n".join(f"- {text_cut(each.text, _WORD)}" for each in said)
    return f"What the person said while tasks were worked on:\n{words}" if said else ""


def _line(text: str, most: int) -> str:
    return " ".join(text_cut(text, most).split())
