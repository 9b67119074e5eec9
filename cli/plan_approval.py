"""A plan that waits for leave to be carried out, and what a person says to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from cli.client import Api
from cli.resources import Estimate, PlanApproval, PlanApprovalTask, Span
from cli.text import money_format, text_clean, text_line

_FILES_SHOWN, _CHECKS_SHOWN = 5, 3


@dataclass(frozen=True)
class PlanDecision:
    """Approve the plan as it was seen, or send it back: with a comment for the planner, or to end the session."""

    approve: bool
    comment: str = ""
    #: The session's from now on; empty: as it is.
    autonomy: str = ""

    @property
    def told(self) -> str:
        if self.approve:
            return "approved"
        return "sent back to the planner" if self.comment else "rejected; the session is cancelled"


def plan_approval_show(approval: PlanApproval, *, console: Console) -> None:
    """The plan, with what it is likely to take."""
    heading = f"\nMay it carry out this plan (version {approval.version})?"
    console.print(Text(heading, style="bold yellow"))
    console.print(Text(f"  {text_clean(approval.summary)}"), soft_wrap=True)
    feature = ""
    for task in approval.tasks:
        if task.feature != feature:
            feature = task.feature
            console.print(Text(f"  {text_line(feature, width=200)}", style="bold"), soft_wrap=True)
        console.print(Text(_task_line(task)), soft_wrap=True)
    if approval.estimate is not None:
        console.print(Text(f"  {estimate_told(approval.estimate)}", style="dim"), soft_wrap=True)


def _task_line(task: PlanApprovalTask) -> str:
    facts = [
        f"after {', '.join(task.needs)}" if task.needs else "",
        f"in {_some(task.files, _FILES_SHOWN)}" if task.files else "",
        f"checked by {_some(task.checks, _CHECKS_SHOWN)}" if task.checks else "",
        task.status if task.status != "pending" else "",
    ]
    told = "; ".join(text_line(fact, width=300) for fact in facts if fact)
    title = text_line(task.title, width=200)
    return f"    {text_line(task.key, width=64)}  {title}" + (f" ({told})" if told else "")


def _some(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def estimate_told(estimate: Estimate) -> str:
    """What it is likely to take, in a line."""
    cost = _span(estimate.cost_usd, money_format) if estimate.cost_usd else "at an unknown price"
    figures = [f"{_span(estimate.steps, _count)} steps", f"{_span(estimate.tokens, _count)} tokens", cost]
    return f"likely {', '.join(figures)} ({text_line(estimate.basis, width=200)})"


def _span(span: Span, shown: Callable[[float], str]) -> str:
    low, high = shown(span.low), shown(span.high)
    return low if low == high else f"{low} to {high}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def plan_decision_send(api: Api, approval: PlanApproval, decision: PlanDecision) -> None:
    if decision.approve:
        api.plan_approve(approval.plan, version=approval.version, autonomy=decision.autonomy)
    else:
        api.plan_reject(approval.plan, version=approval.version, comment=decision.comment)
