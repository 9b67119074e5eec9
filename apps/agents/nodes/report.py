"""Ending a session: what it is worth, by the server's own checks, and the words for a person."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from langgraph.runtime import Runtime

from apps.agents.nodes.completion import session_complete
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.lane_ground import verifications_standing
from apps.agents.types import AgentType, Event, Reason, SessionOutcome
from apps.core.kill_points import kill_point
from apps.planning.document import follow_up_key
from apps.planning.selectors import plan_progress
from apps.planning.services import plan_update_status
from apps.planning.types import PlanProgress, PlanStatus, TaskStatus
from apps.usage.selectors import usage_by_model
from apps.usage.types import UsageLine

#: What is said of a branch on which nothing was done.
_NOTHING: Mapping[str, Any] = {
    "outcome": SessionOutcome.UNVERIFIED.value,
    "reasons": ["nothing was done"],
    "files": [],
    "checks": [],
    "commit": "",
}


async def report(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Complete the session with the verdict on its last commit."""
    context = runtime.context
    plan_id = context.facts.plan_id
    progress = await context.ledger.database.run_in_thread(plan_progress, plan_id)
    if context.facts.agent_type is AgentType.PLANNER:
        text = progress.summary + await _models_told(context)
        await _complete(context, text, SessionOutcome.UNVERIFIED, ("a plan was made, no code was changed",))
        return {}
    standing = await verifications_standing(context, progress.tasks)
    # The last word of the server on the branch, if it was ever asked.
    verified = standing[-1] if standing else _NOTHING
    # A follow-up is a feature of the plan; what failed before it is past.
    own = follow_up_key(context.facts.turn) if context.facts.turn else None
    judged = [task for feature in progress.features if own in (None, feature.key) for task in feature.tasks]
    failed = [task for task in judged if task.status in (TaskStatus.FAILED, TaskStatus.BLOCKED)]
    outcome, reasons = SessionOutcome(verified["outcome"]), tuple(verified["reasons"])
    files = sorted({path for known in standing for path in known["files"]})
    if outcome is SessionOutcome.VERIFIED and not files:
        outcome, reasons = SessionOutcome.UNVERIFIED, ("no file was changed",)
    if failed and outcome is not SessionOutcome.FAILING:
        outcome = SessionOutcome.FAILING
        reasons = (*(f"task {task.key} was not done: {task.title}" for task in failed), *reasons)
    await context.ledger.fenced(
        plan_update_status, plan_id=plan_id, status=PlanStatus.FAILED if failed else PlanStatus.DONE
    )
    text = _report_text(progress, outcome, reasons, files) + await _models_told(context)
    head = verified["commit"] or context.facts.base_commit
    await _complete(context, text, outcome, reasons, files=files, checks=verified["checks"], head_commit=head)
    return {}


async def answer_report(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Complete the session of an agent that only read: its answer is the report."""
    context = runtime.context
    result = await context.ledger.result_load(uuid.UUID(state["execution_id"])) or {}
    summary = str(result.get("summary", "")) or "The agent ended without an answer."
    text = summary + await _models_told(context)
    await _complete(context, text, SessionOutcome.UNVERIFIED, ("nothing was changed, so there was nothing to check",))
    return {}


async def _complete(
    context: RunContext,
    text: str,
    outcome: SessionOutcome,
    reasons: tuple[str, ...],
    *,
    files: list[str] | None = None,
    **columns: Any,
) -> None:
    reason = None
    if outcome is not SessionOutcome.VERIFIED:
        reason = Reason(outcome.value, "; ".join(reasons) or outcome.value, "look at the report and the diff")
    events = (
        Event("SessionReported", {"summary": text, "outcome": outcome.value, "files_changed": files or []}),
        Event("SessionCompleted", {"outcome": outcome.value, "reasons": list(reasons)}),
    )
    kill_point("report.before")
    await session_complete(context, events, reason=reason, outcome=outcome.value, report=text, **columns)
    kill_point("report.written")


async def _models_told(context: RunContext) -> str:
    """Which models were called, and what that cost, as the report's last paragraph."""
    session_id = context.facts.session_id
    lines = (await context.ledger.database.run_in_thread(usage_by_model, [session_id]))[session_id]
    told = [_usage_told(line) for line in lines]
    return "\n\nModels: " + "; ".join(told) if told else ""


def _usage_told(line: UsageLine) -> str:
    calls = f"{line.calls} call{'' if line.calls == 1 else 's'}" + (f", {line.failed} failed" if line.failed else "")
    tokens = f"{line.input_tokens + line.output_tokens:,} tokens" + (" (estimated)" if line.estimated else "")
    cached = f", {line.cached_share:.0%} of the input cached" if line.cached_tokens else ""
    cost = f"${line.cost_usd:.4f}" if line.priced else "price unknown"
    return f"`{line.name}` ({calls}, {tokens}{cached}, {cost})"


def _report_text(progress: PlanProgress, outcome: SessionOutcome, reasons: tuple[str, ...], files: list[str]) -> str:
    """What was done, as Markdown."""
    lines = [
        f"# {progress.summary}",
        "",
        f"Outcome: **{outcome.value}**" + (f" ({'; '.join(reasons)})" if reasons else ""),
    ]
    for feature in progress.features:
        lines += ["", f"## {feature.title}", ""]
        for task in feature.tasks:
            mark = "x" if task.status == TaskStatus.DONE else " "
            commit = f" ({task.commit[:10]})" if task.commit else ""
            lines.append(f"- [{mark}] {task.title}{commit}" + (f": {task.result}" if task.result else ""))
    if files:
        lines += ["", "Files changed: " + ", ".join(f"`{path}`" for path in files)]
    return "\n".join(lines)
