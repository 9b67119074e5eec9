"""Reading sessions, scoped to who asks."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db.models import CharField, Count, Max, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Cast, Coalesce, Concat, NullIf

from apps.agents.models import AgentSession, FileSnapshot, SessionEffect, SessionEvent, SessionHead, ToolCall
from apps.agents.types import AgentType, EditShare, SessionEventData, SessionStatus, ToolCallStatus
from apps.core.errors import Conflict, NotFound
from apps.projects.repository import branch_bundle, diff_read, patch_make
from apps.projects.selectors import project_get_for_user
from apps.usage.selectors import answering_model

if TYPE_CHECKING:
    from apps.authentication.models import User


def session_list_for_user(*, user: User) -> QuerySet[AgentSession]:
    """Every session of the user's projects, newest first."""
    return AgentSession.objects.filter(project__memberships__user=user).select_related("project", "head")


def session_get_for_user(*, user: User, session_id: uuid.UUID, write: bool = False) -> AgentSession:
    """The session; NotFound when it is not in one of the user's projects, PermissionDenied to write as a viewer."""
    session = AgentSession.objects.filter(id=session_id).select_related("project", "head").first()
    if session is None:
        raise NotFound(f"there is no session {session_id}")
    try:
        project_get_for_user(user=user, project_id=session.project_id, write=write)
    except NotFound:
        raise NotFound(f"there is no session {session_id}") from None
    return session


def event_list(*, session_id: uuid.UUID, after: int = 0, limit: int = 500) -> list[SessionEventData]:
    """The events after ``after`` in order, at most ``limit``."""
    rows = SessionEvent.objects.filter(session_id=session_id, seq__gt=after).order_by("seq")[:limit]
    return [SessionEventData(row.seq, row.type, row.payload, row.created_at) for row in rows]


def session_seq_list(session_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The number of the last event of each of these sessions; one query for all of them."""
    return dict(SessionHead.objects.filter(session_id__in=session_ids).values_list("session_id", "seq"))


def question_get(*, session_id: uuid.UUID) -> ToolCall | None:
    """The question that the session waits for an answer to, if it does."""
    waiting = ToolCall.objects.filter(session_id=session_id, status=ToolCallStatus.WAITING, approval__isnull=True)
    return waiting.order_by("created_at").first()


def approval_get(*, session_id: uuid.UUID) -> ToolCall | None:
    """The call that the session waits for a person's leave to make, if it does."""
    waiting = ToolCall.objects.filter(session_id=session_id, status=ToolCallStatus.WAITING, approval__isnull=False)
    return waiting.order_by("created_at").first()


def answer_list(sessions: Sequence[AgentSession]) -> dict[uuid.UUID, dict[str, Any]]:
    """What the planners of completed sessions answered, where the goal was a question; one query for all of them."""
    ended = [session.id for session in sessions if session.status == SessionStatus.COMPLETED and not session.turn]
    found = SessionEffect.objects.filter(session__in=ended, key="answer") if ended else ()
    return {effect.session_id: dict(effect.result) for effect in found}


def edit_share_list(session_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[EditShare]]:
    """The share of well-formed edits of each session, by model and form; one query for all of them.

    Counted from the calls' own rows, each written once, and by the model that answered.
    """
    # As the agent loop names its calls of the model.
    named = Concat(Cast(OuterRef("execution_id"), CharField()), Value(":"), Cast(OuterRef("position"), CharField()))
    key = Coalesce(NullIf(OuterRef("model_key"), Value("")), named)
    provider, model = answering_model(scope="session_id", key=key)
    rows = (
        ToolCall.objects.filter(session_id__in=session_ids, well_formed__isnull=False)
        .annotate(provider=provider, model=model)
        .values("session_id", "session__model", "provider", "model", "edit_format")
        .annotate(calls=Count("id"), good=Count("id", filter=Q(well_formed=True)))
        .order_by("session_id", "provider", "model", "edit_format")
    )
    shares: dict[uuid.UUID, list[EditShare]] = {session_id: [] for session_id in session_ids}
    for row in rows:
        name = f"{row['provider']}:{row['model']}" if row["model"] else row["session__model"]
        shares[row["session_id"]].append(EditShare(name, row["edit_format"], row["calls"], row["good"]))
    return shares


def session_take_ups(session_id: uuid.UUID) -> int:
    """How often workers have taken the session up since a person last set it going."""
    events = SessionEvent.objects.filter(session_id=session_id)
    asked = events.filter(
        type__in=(
            *("SessionQueued", "SessionResumed", "QuestionAnswered", "ApprovalDecided", "SessionReopened"),
            *("PlanApproved", "PlanRejected"),
        )
    ).aggregate(last=Max("seq"))
    return events.filter(type="SessionStarted", seq__gt=asked["last"] or 0).count()


def plan_made(session: AgentSession) -> uuid.UUID | None:
    """The plan that the session works on, if it was made: a planner makes another one for each follow-up.

    Unless it was begun with one that was there: that is what it revises then.
    """
    if session.agent_type != AgentType.PLANNER or not session.turn:
        return session.plan_id
    if SessionEffect.objects.filter(session=session, key="plan", result__given=True).exists():
        return session.plan_id
    made = SessionEffect.objects.filter(session=session, key=f"plan#{session.turn}")
    return session.plan_id if made.exists() else None


def snapshot_last(session_id: uuid.UUID, *, seq: int | None = None, lane: str = "") -> FileSnapshot | None:
    """How the files were kept last (up to this step); None: as in the commit that the session started from.

    Those of the session's own worktree, or of the one of a ``lane``.
    """
    snapshots = FileSnapshot.objects.filter(session_id=session_id, lane=lane, retired=None)
    if seq is not None:
        snapshots = snapshots.filter(seq__lte=seq)
    return snapshots.order_by("seq", "id").last()


def lanes_opened(session_id: uuid.UUID) -> list[str]:
    """The names of all lanes that the session has had, whatever has become of them."""
    lanes = FileSnapshot.objects.filter(session_id=session_id).exclude(lane="")
    return list(lanes.order_by("lane").values_list("lane", flat=True).distinct())


def session_diff(session: AgentSession, *, max_bytes: int = 1_000_000) -> dict[str, object]:
    """What the session's branch changes against the commit that it started from."""
    head = session.head_commit or session.base_commit
    if head == session.base_commit:
        return {"base": head, "head": head, "diff": "", "files": (), "truncated": False}
    diff = diff_read(project_id=session.project_id, base=session.base_commit, head=head, max_bytes=max_bytes)
    return {
        "base": session.base_commit,
        "head": head,
        "diff": diff.text,
        "files": diff.files,
        "truncated": diff.truncated,
    }


def session_patch(session: AgentSession) -> Path:
    """A new file with all that the session changed, for ``git apply``; the caller deletes it."""
    if session.discarded_at is not None:
        raise Conflict("the session's branch was discarded", state="discarded")
    head = session.head_commit or session.base_commit
    return patch_make(project_id=session.project_id, base=session.base_commit, head=head)


def session_bundle(session: AgentSession) -> Path:
    """A new file with the session's branch as a git bundle; the caller deletes it."""
    if session.discarded_at is not None:
        raise Conflict("the session's branch was discarded", state="discarded")
    if not session.head_commit or session.head_commit == session.base_commit:
        raise Conflict("the session has changed nothing yet, so there is no branch to fetch", state=session.status)
    return branch_bundle(project_id=session.project_id, branch=session.branch, base=session.base_commit)


def plan_sessions(plan_id: uuid.UUID) -> QuerySet[AgentSession]:
    """The sessions that carry the plan out or did, newest first."""
    return AgentSession.objects.filter(plan=plan_id).order_by("-created_at", "id").only("id", "status")
