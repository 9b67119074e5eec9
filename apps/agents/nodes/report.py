"""Ending a session: what it is worth, by the server's own checks, and the words for a person."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from langgraph.runtime import Runtime

from apps.agents.nodes.completion import session_complete
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.judging import FINAL_EFFECT
from apps.agents.nodes.task_rows import is_reading
from apps.agents.services.report_facts import Verdict, execution_answer, judged_last, report_facts
from apps.agents.services.report_text import report_brief
from apps.agents.tools.base import text_cut
from apps.agents.types import AgentType, Event, Reason, SessionOutcome
from apps.core.errors import NotFound
from apps.core.kill_points import kill_point
from apps.planning.scheduling import SATISFIED
from apps.planning.selectors import plan_progress
from apps.planning.services import plan_update_status
from apps.planning.types import PlanProgress, PlanStatus, TaskProgress

NOTHING_CHANGED = "nothing was changed, so there was nothing to check"
#: What is said of a branch on which nothing was done.
_NOTHING: Mapping[str, Any] = {
    "outcome": SessionOutcome.UNVERIFIED.value,
    "reasons": ["nothing was done"],
    "files": [],
    "checks": [],
    "commit": "",
}


async def report(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Complete the session with the verdict on its last commit; a question's with the answer."""
    context = runtime.context
    progress = await _progress(context)
    if progress is None or not progress.tasks:
        # Nothing was planned: the planner has answered by itself.
        return await answer_report(state, runtime)
    if context.facts.agent_type is AgentType.PLANNER:
        revised = await context.ledger.effect_find(context.facts.turn_key("plan-revised")) or {}
        told = str(revised.get("note") or "") or "a plan was made, no code was changed"
        step = f"look at it, and approve it or have it revised: ./archon plan show {progress.id}"
        await _complete(context, SessionOutcome.UNVERIFIED, (told,), step=step)
        return {}
    session_id = context.facts.session_id
    verified = await context.ledger.database.run_in_thread(judged_last, session_id)
    if verified is None:
        only_read = all(is_reading(task) for task in progress.tasks)
        verified = {**_NOTHING, "reasons": [NOTHING_CHANGED]} if only_read else _NOTHING
    # A follow-up is a feature of the plan; what failed before it is past.
    own = context.facts.follow_up_key if context.facts.turn else None
    judged = [task for feature in progress.features if own in (None, feature.key) for task in feature.tasks]
    failed = [task for task in judged if task.status not in SATISFIED]
    outcome, reasons = SessionOutcome(verified["outcome"]), tuple(verified["reasons"])
    files = await _files(context, progress)
    if outcome is SessionOutcome.VERIFIED and not files:
        outcome, reasons = SessionOutcome.UNVERIFIED, ("no file was changed",)
    if failed and outcome is not SessionOutcome.FAILING:
        outcome = SessionOutcome.FAILING
        reasons = (*(f"task {task.key} was not done: {task.title}{_why(task)}" for task in failed), *reasons)
    final = await context.ledger.effect_find(context.facts.turn_key(FINAL_EFFECT))
    if final is not None and final["reasons"]:
        outcome, reasons = SessionOutcome.FAILING, (*reasons, *final["reasons"])
    # The plan is done once all of it is: whatever is left can be carried out again.
    left = any(task.status not in SATISFIED for task in progress.tasks)
    await context.ledger.fenced(
        plan_update_status, plan_id=progress.id, status=PlanStatus.FAILED if left else PlanStatus.DONE
    )
    head = verified["commit"] or context.facts.base_commit
    await _complete(context, outcome, reasons, files=files, checks=verified["checks"], head_commit=head)
    return {}


async def answer_report(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Complete the session of an agent that only read: its answer is the report."""
    context = runtime.context
    result = await context.ledger.result_load(uuid.UUID(state["execution_id"]))
    answer = execution_answer(result) or "The agent ended without an answer."
    step = f"read the answer; to ask or want more: ./archon say {context.facts.session_id} TEXT"
    await _complete(context, SessionOutcome.UNVERIFIED, (NOTHING_CHANGED,), answer=answer, step=step)
    return {}


async def _complete(
    context: RunContext,
    outcome: SessionOutcome,
    reasons: tuple[str, ...],
    *,
    answer: str = "",
    step: str = "look at the report and the diff",
    files: list[str] | None = None,
    **columns: Any,
) -> None:
    verdict = Verdict(
        outcome=outcome.value,
        reasons=reasons,
        checks=columns.get("checks", ()),
        head_commit=columns.get("head_commit", ""),
        answer=answer,
    )
    session_id = context.facts.session_id
    facts = await context.ledger.database.run_in_thread(report_facts, session_id, verdict=verdict)
    text = report_brief(facts)
    reason = None
    if outcome is not SessionOutcome.VERIFIED:
        reason = Reason(outcome.value, "; ".join(reasons) or outcome.value, step)
    events = (
        Event("SessionReported", {"summary": text, "outcome": outcome.value, "files_changed": files or []}),
        Event("SessionCompleted", {"outcome": outcome.value, "reasons": list(reasons)}),
    )
    kill_point("report.before")
    await session_complete(context, events, reason=reason, outcome=outcome.value, report=text, **columns)
    kill_point("report.written")


async def _progress(context: RunContext) -> PlanProgress | None:
    """The session's plan; None: it has none, which a session that only answers need not have."""
    try:
        return await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id)
    except NotFound:
        return None


def _why(task: TaskProgress) -> str:
    """What the agent of a task says that it left."""
    return f" ({text_cut(task.result, 500)})" if task.result.startswith("blocked: ") else ""


async def _files(context: RunContext, progress: PlanProgress) -> list[str]:
    """The files that the tasks have touched, in the last attempt at each."""
    facts = await context.ledger.database.run_in_thread(report_facts, context.facts.session_id)
    return sorted({path for task in facts.tasks for path in task.files})
