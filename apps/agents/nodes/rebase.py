"""A session whose branch is put onto another commit: judged there anew, by the server's own checks."""

from __future__ import annotations

from langgraph.runtime import Runtime

from apps.agents.nodes.baseline import baseline_open, checks_brief
from apps.agents.nodes.completion import session_complete
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.index_telling import index_tell
from apps.agents.nodes.judging import FINAL_EFFECT, acceptance_final, checks_present, commit_judge
from apps.agents.services.rebases import former_report
from apps.agents.types import Event, Reason, SessionOutcome
from apps.core.errors import NotFound
from apps.planning.selectors import plan_progress


async def rebase_verify(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Move the branch, run the checks there, the tasks' own too, and complete the session with the new verdict."""
    context = runtime.context
    rebase = context.facts.rebase
    assert rebase is not None
    phase = Event("PhaseChanged", {"phase": "rebase"})
    await context.ledger.effect_record(context.facts.base_key("phase:rebase"), phase, result={})
    await context.site.branch_rebased(commit=rebase.head, expected=rebase.former_head)
    await index_tell(context, await context.site.files_tree())
    baseline = await baseline_open(context)
    judged = await commit_judge(context, baseline, rebase.head)
    undone = await _no_longer_held(context, rebase.head)
    reasons = (*judged.reasons, *undone)
    changes = await context.site.changes(rebase.head)
    files = sorted({change.path for change in changes})
    outcome = SessionOutcome.FAILING if undone else SessionOutcome(judged.outcome)
    reason = None
    if outcome is not SessionOutcome.VERIFIED:
        told = "; ".join(reasons) or outcome.value
        next_step = "look at the diff; archon say SESSION has the agent go on from here"
        reason = Reason(outcome.value, told, next_step)
    former = await context.ledger.database.run_in_thread(former_report, context.facts.session_id)
    said = f" ({'; '.join(reasons)})" if reasons else ""
    text = (
        f"{former}\n\nPut onto {rebase.onto[:12]} of {context.facts.base_branch} ({rebase.commits} commits), and "
        f"checked there: **{outcome.value}**{said}."
    ).strip()
    checks = checks_present(judged)
    events = (
        Event("ChecksFinished", {"stage": "after", "commit": rebase.head, "checks": checks_brief(judged.reports)}),
        Event(
            "SessionRebased",
            {
                "onto": rebase.onto,
                "commit": rebase.head,
                "former_base": rebase.former_base,
                "former_commit": rebase.former_head,
                "commits": rebase.commits,
                "outcome": outcome.value,
            },
        ),
        Event("SessionReported", {"summary": text, "outcome": outcome.value, "files_changed": files}),
        Event("SessionCompleted", {"outcome": outcome.value, "reasons": list(reasons)}),
    )
    await session_complete(
        context,
        events,
        reason=reason,
        outcome=outcome.value,
        report=text,
        checks=checks,
        head_commit=rebase.head,
        rebase=None,
    )
    return {}


async def _no_longer_held(context: RunContext, head: str) -> tuple[str, ...]:
    """What shows that the session's tasks are done, and doesn't on the commit that their work is at now."""
    try:
        progress = await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id)
    except NotFound:
        return ()
    if not any(task.acceptance for task in progress.tasks):
        return ()
    known = await acceptance_final(context, progress.tasks, head, key=context.facts.base_key(FINAL_EFFECT))
    return tuple(known["reasons"])
