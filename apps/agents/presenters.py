"""A session as the API shows it, put together from the rows of several apps."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import prefetch_related_objects
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from rest_framework.response import Response

from apps.agents.models import AgentSession, SessionEvent, ToolCall
from apps.agents.selectors import answer_list, approval_get, edit_share_list, question_get
from apps.agents.serializers import SessionSerializer
from apps.agents.services.plan_approvals import plan_waiting
from apps.agents.services.plan_estimates import estimate_left, plan_standing
from apps.agents.services.sessions import seconds_used
from apps.agents.types import EditShare, SessionStatus
from apps.planning.selectors import plan_progress
from apps.projects.secrets import SecretUse
from apps.usage.selectors import budget_list, usage_by_model, usage_by_role
from apps.usage.types import BudgetState, RoleUsage, UsageLine, share_of

#: Events that tell what a session is doing at the moment.
_CURRENT_EVENTS = ("PhaseChanged", "TaskStarted", "ToolStarted", "ToolFinished", "ToolStopped", "ModelReplied")


@dataclass(frozen=True)
class _Spent:
    """What a session may spend and has spent: in all, by model, by role, and how its edits went."""

    budget: BudgetState
    lines: Sequence[UsageLine]
    roles: Sequence[RoleUsage]
    edits: Sequence[EditShare]


def sessions_present(sessions: Sequence[AgentSession]) -> list[dict[str, Any]]:
    """Sessions as ``SessionSerializer`` renders them; one query each for all spending, edits and attachments."""
    spent = _spent([session.id for session in sessions])
    answers = answer_list(sessions)
    prefetch_related_objects(list(sessions), "attachments")
    return [_session_present(session, spent[session.id], answers.get(session.id)) for session in sessions]


def _spent(session_ids: list[uuid.UUID]) -> dict[uuid.UUID, _Spent]:
    budgets, edits = budget_list(session_ids), edit_share_list(session_ids)
    lines, roles = usage_by_model(session_ids), usage_by_role(session_ids)
    return {each: _Spent(budgets[each], lines[each], roles[each], edits[each]) for each in session_ids}


def session_present(session: AgentSession) -> dict[str, Any]:
    return sessions_present([session])[0]


def session_accepted(session: AgentSession) -> Response:
    """202, with where to watch."""
    location = reverse("agent-session-progress", args=[session.id])
    body = SessionSerializer(session_present(session)).data
    return Response(body, status=202, headers={"Location": location})


def _session_present(session: AgentSession, spent: _Spent, answer: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": session.id,
        "project": session.project_id,
        "goal": session.goal,
        "agent_type": session.agent_type,
        "status": session.status,
        "outcome": session.outcome,
        "reason": session.reason,
        "model": session.model,
        "base_url": session.base_url,
        "models": session.role_models,
        "autonomy": session.autonomy,
        "review": session.review,
        "agents": session.agents,
        "lanes": session.lanes,
        "branch": session.branch,
        "base_branch": session.base_branch,
        "base_commit": session.base_commit,
        "head_commit": session.head_commit,
        "merged_commit": session.merged_commit,
        "discarded_at": session.discarded_at,
        "turn": session.turn,
        "secrets": [str(SecretUse(use["name"], tuple(use["places"]))) for use in session.secrets],
        "attachments": list(session.attachments.all()),
        "limits": _limits(session, spent.budget),
        "usage": _usage(spent),
        "checks": session.checks,
        "question": _question(session),
        "approval": _approval(session),
        "plan": session.plan_id,
        "plan_approval": plan_approval_present(session),
        "answer": answer,
        "report": session.report,
        "created_at": session.created_at,
        "started_at": session.started_at,
        "finished_at": session.finished_at,
        "progress_url": reverse("agent-session-progress", args=[session.id]),
    }


def progress_present(session: AgentSession) -> dict[str, Any]:
    """Where the session is, as ``ProgressSerializer`` renders it."""
    spent = _spent([session.id])[session.id]
    plan = None if session.plan is None else plan_standing(session.plan)
    return {
        "id": session.id,
        "status": session.status,
        "outcome": session.outcome,
        "reason": session.reason,
        "plan": plan,
        "current": _current(session),
        "usage": _usage(spent),
        "limits": _limits(session, spent.budget),
        "elapsed_s": round(seconds_used(session), 2),
        "last_seq": session.head.seq,
        "checks": session.checks,
        "question": _question(session),
        "approval": _approval(session),
        "plan_approval": plan_approval_present(session),
        "answer": answer_list([session]).get(session.id),
    }


def plan_approval_present(session: AgentSession) -> dict[str, Any] | None:
    """The plan that the session waits with for a person's leave, in short; the whole is the plan's own."""
    plan = plan_waiting(session)
    if plan is None:
        return None
    progress = plan_progress(plan.id)
    tasks = [
        {
            "key": task.key,
            "title": task.title,
            "feature": feature.title,
            "agent_type": task.agent_type,
            "needs": list(task.needs),
            "files": [*task.files, *task.creates],
            "checks": list(task.checks),
            "status": task.status,
        }
        for feature in progress.features
        for task in feature.tasks
    ]
    return {
        "plan": plan.id,
        "version": plan.version,
        "intent": plan.intent,
        "summary": plan.summary,
        "tasks": tasks,
        "estimate": estimate_left(plan) or None,
    }


def _usage(spent: _Spent) -> dict[str, Any]:
    budget = spent.budget
    return {
        "input_tokens": budget.input_tokens,
        "output_tokens": budget.output_tokens,
        "cached_tokens": budget.cached_tokens,
        "cached_share": share_of(budget.cached_tokens, budget.input_tokens),
        "cache_write_tokens": budget.cache_write_tokens,
        "cost_usd": float(budget.cost_usd),
        "steps": budget.steps,
        "estimated": budget.estimated,
        "priced": not budget.unpriced,
        "by_model": spent.lines,
        "by_role": spent.roles,
        "edits": spent.edits,
    }


def _limits(session: AgentSession, budget: BudgetState) -> dict[str, Any]:
    cost = budget.limits.cost_usd
    return {
        "cost_usd": None if cost is None else float(cost),
        "tokens": budget.limits.tokens,
        "steps": budget.limits.steps,
        "seconds": session.limit_seconds,
    }


def _question(session: AgentSession) -> dict[str, Any] | None:
    if session.status != SessionStatus.WAITING_INPUT:
        return None
    call: ToolCall | None = question_get(session_id=session.id)
    if call is None:
        return None
    arguments = call.arguments
    return {"id": call.id, "text": arguments.get("question", ""), "choices": list(arguments.get("choices") or [])}


def _approval(session: AgentSession) -> dict[str, Any] | None:
    if session.status != SessionStatus.WAITING_APPROVAL:
        return None
    call = approval_get(session_id=session.id)
    if call is None or call.approval is None:
        return None
    asked = {name: call.approval[name] for name in ("risk", "reasons", "digest", "requested_at", "expires_at")}
    times = {name: parse_datetime(asked[name]) for name in ("requested_at", "expires_at")}
    return {"call": call.id, "name": call.name, "arguments": call.arguments, **asked, **times}


def _current(session: AgentSession) -> dict[str, Any] | None:
    """What the session does now, read off its newest events."""
    if session.status != SessionStatus.RUNNING:
        return None
    latest = SessionEvent.objects.filter(session=session, type__in=_CURRENT_EVENTS).order_by("-seq")[:200]
    found: dict[str, SessionEvent] = {}
    for event in latest:
        found.setdefault(event.type, event)
        if len(found) == len(_CURRENT_EVENTS):
            break
    if not found:
        return None
    started = found.get("ToolStarted")
    over = [event.seq for event in (found.get("ToolFinished"), found.get("ToolStopped")) if event is not None]
    running = started is not None and all(seq < started.seq for seq in over)
    newest = max(found.values(), key=lambda event: event.seq)
    return {
        "phase": _payload(found.get("PhaseChanged"), "phase"),
        "role": _payload(found.get("ModelReplied"), "role"),
        "task": _payload(found.get("TaskStarted"), "title"),
        "tool": _payload(started, "name") if running else None,
        "since": newest.created_at,
    }


def _payload(event: SessionEvent | None, key: str) -> Any:
    return None if event is None else event.payload.get(key)
