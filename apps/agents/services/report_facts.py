"""The facts of a session's report, read off its rows: the same rows, the same report."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.agents.models import AgentExecution, AgentSession, SessionEffect, SessionEvent
from apps.agents.services.report_types import (
    CheckFact,
    DroppedFact,
    FeatureFact,
    FindingFact,
    ModelFact,
    ProjectCheckFact,
    ReportFacts,
    SpendingFact,
    TaskFact,
    VersionFact,
    without_secrets,
)
from apps.agents.types import READING_TYPES, TERMINAL_STATUSES, AgentType, SessionStatus
from apps.planning.models import PlanVersion
from apps.planning.selectors import plan_progress
from apps.planning.types import PlanProgress, TaskProgress, TaskStatus
from apps.projects.secrets import project_redactor
from apps.usage.selectors import budget_get, usage_by_model
from apps.usage.types import UsageLine, share_of

#: What an effect holds that is the server's word on a commit.
_JUDGED = ("outcome", "reasons", "checks", "commit")


@dataclass(frozen=True)
class Verdict:
    """How the session ends, before its row says so."""

    outcome: str
    reasons: tuple[str, ...]
    checks: Sequence[Mapping[str, Any]]
    head_commit: str
    answer: str = ""


def report_facts_shown(session_id: uuid.UUID, *, published_branch: str | None = None) -> ReportFacts:
    """For whoever reads it: without the project's secrets, those too that became some after the session.

    Raises SecretUnreadable rather than let one pass.
    """
    facts = report_facts(session_id, published_branch=published_branch)
    project_id = AgentSession.objects.values_list("project_id", flat=True).get(id=session_id)
    return without_secrets(facts, project_redactor(project_id=project_id))


def report_facts(
    session_id: uuid.UUID, *, verdict: Verdict | None = None, published_branch: str | None = None
) -> ReportFacts:
    """Asks for no user: for callers that have checked. ``published_branch``: one that is being pushed."""
    session = AgentSession.objects.get(id=session_id)
    progress = plan_progress(session.plan_id) if session.plan_id else None
    versions = list(PlanVersion.objects.filter(plan=session.plan_id).order_by("number")) if session.plan_id else []
    checks = verdict.checks if verdict else session.checks
    final = verdict is not None or session.status in TERMINAL_STATUSES
    features = _features(session, progress, versions) if progress else ()
    head = verdict.head_commit if verdict else session.head_commit
    # What was given up is not on the branch, unless it was the last thing there.
    standing = [task for feature in features for task in feature.tasks if task.status == "done" or task.commit == head]
    return ReportFacts(
        session_id=str(session.id),
        goal=session.goal,
        agent_type=session.agent_type,
        status=SessionStatus.COMPLETED.value if verdict else session.status,
        final=final,
        outcome=verdict.outcome if verdict else session.outcome,
        reasons=verdict.reasons if verdict else _reasons(session),
        summary=progress.summary if progress else "",
        answer=verdict.answer if verdict else _answer(session, progress),
        plan_version=progress.version if progress else None,
        approved_version=progress.approved_version if progress else None,
        versions=tuple(_version(row) for row in versions),
        features=features,
        dropped=_dropped(versions, progress) if progress else (),
        checks=tuple(_project_check(check) for check in checks),
        changed_tests=_together(checks, "changed_test_files"),
        changed_check_config=_together(checks, "changed_check_config"),
        files=tuple(sorted({path for task in standing for path in task.files})),
        base_branch=session.base_branch,
        base_commit=session.base_commit,
        branch=session.branch,
        head_commit=head,
        merged_commit=session.merged_commit,
        published_branch=_published(session) if published_branch is None else published_branch,
        spending=_spending(session, settled=verdict is None and session.running_since is None),
    )


def judged_last(session_id: uuid.UUID) -> Mapping[str, Any] | None:
    """The server's last word on the branch, on the commit that it is at if there is one; None: none of what it has.

    A branch that is where it began has nothing, whatever was judged and put aside again.
    """
    session = AgentSession.objects.only("head_commit", "base_commit").get(id=session_id)
    head = session.head_commit
    judged = SessionEffect.objects.filter(session_id=session_id, retired=None, result__has_keys=_JUDGED)
    # An agent that only reads made no commit: what it came to says nothing of the branch.
    judged = judged.filter(result__reading__isnull=True)
    # Of work beside other tasks only what was merged is on the branch.
    judged = judged.exclude(result__has_key="lane")
    ordered = judged.order_by("seq", "id")
    last = ordered.filter(result__commit=head).last() or (ordered.last() if head != session.base_commit else None)
    return {**last.result, "commit": head or last.result["commit"]} if last is not None else None


def execution_answer(result: Mapping[str, Any] | None) -> str:
    """What an agent that only read has handed over: its words, and the places in the code that they rest on."""
    result = result or {}
    text = str(result.get("answer") or result.get("summary") or "")
    places = []
    for citation in result.get("citations") or ():
        first, last = citation.get("start_line"), citation.get("end_line")
        lines = f":{first}" + (f"-{last}" if last and last != first else "") if first else ""
        places.append(f"- `{citation.get('path', '')}{lines}`")
    return text + ("\n\nSources:\n" + "\n".join(places) if places else "")


def _answer(session: AgentSession, progress: PlanProgress | None) -> str:
    """Of a session that had only to read: what its agent said."""
    if session.agent_type == AgentType.PLANNER or (progress is not None and progress.tasks):
        return ""
    last = AgentExecution.objects.filter(session=session, retired=None, result__isnull=False)
    if session.agent_type in READING_TYPES:
        last = last.filter(role=session.agent_type)
    found = last.order_by("created_at").last()
    return execution_answer(found.result) if found is not None else ""


def _reasons(session: AgentSession) -> tuple[str, ...]:
    if session.status == SessionStatus.COMPLETED:
        ended = SessionEvent.objects.filter(session=session, type="SessionCompleted").order_by("seq").last()
        if ended is not None:
            return tuple(str(reason) for reason in ended.payload.get("reasons") or ())
    reason = session.reason or {}
    return (str(reason["message"]),) if reason.get("message") else ()


def _published(session: AgentSession) -> str:
    publication = getattr(session, "publication", None)
    return publication.pushed_branch if publication is not None else ""


# --- the plan ---------------------------------------------------------------------------------------------------------
def _features(
    session: AgentSession, progress: PlanProgress, versions: Sequence[PlanVersion]
) -> tuple[FeatureFact, ...]:
    told = _Told(session, progress, versions)
    return tuple(
        FeatureFact(
            key=feature.key,
            title=feature.title,
            depth=feature.depth,
            status=feature.status.value,
            tasks=tuple(told.task(task) for task in feature.tasks),
        )
        for feature in progress.features
    )


class _Told:
    """What else the session's rows say of its tasks."""

    def __init__(self, session: AgentSession, progress: PlanProgress, versions: Sequence[PlanVersion]) -> None:
        keys = {f"verify:{task.id}:{task.attempts}": str(task.id) for task in progress.tasks if task.attempts}
        rows = SessionEffect.objects.filter(session=session, retired=None, key__in=keys)
        self._judged = {keys[row.key]: row.result for row in rows}
        ends = ("TaskCommitted", "TaskFailed", "TaskBlocked")
        self._committed: dict[str, Mapping[str, Any]] = {}
        self._failed: dict[str, str] = {}
        for event in SessionEvent.objects.filter(session=session, type__in=ends).order_by("seq"):
            task_id = str(event.payload.get("task", ""))
            if event.type == "TaskCommitted":
                self._committed[task_id] = event.payload
            else:
                said = str(event.payload.get("reason") or "")
                self._failed[task_id] = (
                    f"it can't be done as things are: {said}" if event.type == "TaskBlocked" else said
                )
        self._skipped: dict[str, str] = {}
        for version in versions:
            for change in version.changes:
                if change.get("what") == "task" and change.get("field") == "skipped" and change.get("after"):
                    self._skipped[str(change.get("key"))] = version.reason

    def task(self, task: TaskProgress) -> TaskFact:
        return TaskFact(
            key=task.key,
            title=task.title,
            type=task.type.value,
            status=task.status.value,
            attempts=task.attempts,
            commit=task.commit,
            result=task.result,
            files=self._files(task),
            checks=tuple(_check(check) for check in task.check_results),
            findings=tuple(_finding(finding) for finding in task.findings),
            reason=self._reason(task),
        )

    def _files(self, task: TaskProgress) -> tuple[str, ...]:
        committed = self._committed.get(str(task.id), {})
        if task.commit and committed.get("commit") == task.commit:
            return tuple(committed.get("files") or ())
        judged = self._judged.get(str(task.id), {})
        if judged.get("lane"):
            # What was given up there has never been on the session's branch.
            return ()
        return tuple(judged.get("files") or ()) if task.commit else ()

    def _reason(self, task: TaskProgress) -> str:
        match task.status:
            case TaskStatus.FAILED:
                judged = self._judged.get(str(task.id), {})
                return self._failed.get(str(task.id)) or "; ".join(judged.get("reasons") or ())
            case TaskStatus.BLOCKED:
                return task.blocked_reason
            case TaskStatus.SKIPPED:
                return self._skipped.get(task.key, "")
        return ""


def _dropped(versions: Sequence[PlanVersion], progress: PlanProgress) -> tuple[DroppedFact, ...]:
    present = {task.key for task in progress.tasks}
    found: dict[str, DroppedFact] = {}
    for version in versions:
        for change in version.changes:
            key = str(change.get("key"))
            if change.get("what") == "task" and change.get("kind") == "removed" and key not in present:
                found[key] = DroppedFact(key, str(change.get("title", "")), version.number, version.reason)
    return tuple(found.values())


def _version(row: PlanVersion) -> VersionFact:
    kinds = Counter(str(change.get("kind")) for change in row.changes)
    return VersionFact(
        number=row.number,
        source=row.source,
        reason=row.reason,
        added=kinds["added"],
        removed=kinds["removed"],
        changed=kinds["changed"] + kinds["moved"],
    )


def _check(check: Mapping[str, Any]) -> CheckFact:
    command = str(check.get("command", ""))
    return CheckFact(
        name=str(check.get("name") or command),
        command=command,
        passed=bool(check.get("passed")),
        exit_code=check.get("exit_code"),
        output=str(check.get("output") or ""),
    )


def _finding(finding: Mapping[str, Any]) -> FindingFact:
    return FindingFact(
        path=str(finding.get("path", "")),
        line=finding.get("line"),
        severity=str(finding.get("severity", "")),
        comment=str(finding.get("comment", "")),
        resolved=bool(finding.get("resolved")),
    )


# --- checks and spending ----------------------------------------------------------------------------------------------
def _project_check(check: Mapping[str, Any]) -> ProjectCheckFact:
    def tests(name: str) -> tuple[str, ...]:
        return tuple(check.get(name) or ())

    return ProjectCheckFact(
        name=str(check.get("name", "")),
        command=str(check.get("command", "")),
        before=check.get("before"),
        after=check.get("after"),
        tests_before=int(check.get("tests_before") or 0),
        tests_after=int(check.get("tests_after") or 0),
        exit_code=check.get("exit_code"),
        output=str(check.get("output") or ""),
        fixed=tests("fixed"),
        newly_failing=tests("newly_failing"),
        still_failing=tests("still_failing"),
        disappeared=(*tests("disappeared"), *tests("vanished_failures")),
        flaky=tests("flaky"),
    )


def _together(checks: Sequence[Mapping[str, Any]], name: str) -> tuple[str, ...]:
    return tuple(sorted({str(path) for check in checks for path in check.get(name) or ()}))


def _spending(session: AgentSession, *, settled: bool) -> SpendingFact:
    budget = budget_get(session.id)
    return SpendingFact(
        models=tuple(_model(line) for line in usage_by_model([session.id])[session.id]),
        steps=budget.steps,
        input_tokens=budget.input_tokens,
        output_tokens=budget.output_tokens,
        cached_share=share_of(budget.cached_tokens, budget.input_tokens),
        cost_usd=float(budget.cost_usd),
        priced=not budget.unpriced,
        # While a worker has it, each look would say something else.
        seconds=round(session.used_seconds) if settled else None,
    )


def _model(line: UsageLine) -> ModelFact:
    return ModelFact(
        name=line.name,
        calls=line.calls,
        failed=line.failed,
        input_tokens=line.input_tokens,
        output_tokens=line.output_tokens,
        cached_tokens=line.cached_tokens,
        cached_share=line.cached_share,
        cost_usd=float(line.cost_usd),
        priced=line.priced,
        estimated=line.estimated,
    )
