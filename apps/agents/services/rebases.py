"""Putting a session's branch onto its base branch as that is now, for when it has moved since.

The commits are made anew in the server's repository, before anything is promised: what doesn't fit together is told at
once, by file, and changes nothing. Then the session is woken; a worker moves the branch and has it checked there.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import transaction

from apps.agents.models import AgentSession
from apps.agents.selectors import session_get_for_user
from apps.agents.services.leftovers import checkpoint_delete
from apps.agents.services.places import place_take
from apps.agents.services.sessions import EXECUTE_TASK, event_append, fence_move, session_lock, state_require
from apps.agents.types import Event, SessionStatus
from apps.core.errors import Conflict
from apps.core.queue import enqueue_on_commit
from apps.projects.repository import commit_resolve
from apps.projects.repository_rebase import RebaseConflict, Replayed, branch_replay

if TYPE_CHECKING:
    from apps.authentication.models import User

_FILES_TOLD = 10


def session_rebase(*, user: User, session_id: uuid.UUID) -> AgentSession:
    """Put the session's branch onto the head of the branch that it started from, and have it checked there.

    Already there, or already under way: changes nothing. Raises Conflict in any state but ``completed``, for a branch
    that was merged or discarded, and (``rebase_conflict``, with the files) where the same lines were changed.
    """
    session = session_get_for_user(user=user, session_id=session_id, write=True)
    if session.rebase and session.status == SessionStatus.RUNNING:
        return session
    _rebasable_require(session)
    onto = commit_resolve(project_id=session.project_id, revision=session.base_branch)
    if onto == (session.merge_onto or session.base_commit):
        return session
    # Outside of the transaction: this only makes objects, the same ones each time.
    replayed = _replay(session, onto)
    with transaction.atomic():
        locked = session_lock(session_id)
        if (locked.status, locked.head_commit) != (session.status, session.head_commit):
            raise Conflict(f"the session is {locked.status} by now", next_step="look at it again", state=locked.status)
        # It may have been merged or discarded while the commits were made.
        _rebasable_require(locked)
        _reopen(locked, onto=onto, replayed=replayed)
    return session_get_for_user(user=user, session_id=session_id)


def rebase_leave(session: AgentSession) -> None:
    """One that was cut short is over, where the branch got to; the caller saves the session.

    ``rebases`` counts on, so that what was found out about one base is not taken for what holds on another.
    """
    rebase = session.rebase
    assert rebase is not None
    moved = commit_resolve(project_id=session.project_id, revision=session.branch) == rebase["head"]
    if moved:
        session.head_commit = rebase["head"]
    else:
        session.base_commit, session.head_commit = rebase["former_base"], rebase["former_head"]
        session.rebases += 1
    session.rebase = None


def former_report(session_id: uuid.UUID) -> str:
    """What the session's last report said."""
    return str(AgentSession.objects.values_list("report", flat=True).get(id=session_id))


def _rebasable_require(session: AgentSession) -> None:
    if session.merged_commit:
        raise Conflict("the session's branch was merged already", state="merged")
    if session.discarded_at is not None:
        raise Conflict("the session's branch was discarded", state="discarded")
    state_require(session, [SessionStatus.COMPLETED])
    if not session.head_commit or session.head_commit == session.base_commit:
        raise Conflict("the session changed nothing, so there is nothing to put anywhere", state="unchanged")


def _replay(session: AgentSession, onto: str) -> Replayed:
    try:
        return branch_replay(project_id=session.project_id, head=session.head_commit, onto=onto)
    except RebaseConflict as error:
        files = list(error.extra.get("files", ()))
        listed = ", ".join(files[:_FILES_TOLD]) or "its history"
        raise Conflict(
            f"{session.base_branch} and the session's branch change the same lines in {listed}",
            next_step=f'have the agent make room: archon say {session.id} "{session.base_branch} has changed {listed} '
            'meanwhile: make the change so that it fits", then rebase again; or start a new session',
            state="rebase_conflict",
            files=files,
            commit=onto,
        ) from error


def _reopen(session: AgentSession, *, onto: str, replayed: Replayed) -> None:
    """From ``completed`` to ``running``, based on another commit; inside the caller's transaction."""
    place_take(session)
    fence_move(session, wanted=True)
    checkpoint_delete(session.id)
    session.rebase = {
        "onto": onto,
        "head": replayed.head,
        "former_base": session.base_commit,
        "former_head": session.head_commit,
        "commits": replayed.commits,
    }
    session.rebases += 1
    session.base_commit, session.merge_onto = onto, ""
    session.status = SessionStatus.RUNNING
    session.outcome = session.reason = session.finished_at = session.running_since = None
    session.checks = []
    session.save(
        update_fields=[
            *("rebase", "rebases", "base_commit", "merge_onto", "status", "outcome", "reason", "finished_at"),
            *("running_since", "checks", "updated_at"),
        ]
    )
    started = Event("RebaseStarted", {"onto": onto, "commits": replayed.commits})
    event_append(session_id=session.id, events=[started])
    enqueue_on_commit(EXECUTE_TASK, session_id=str(session.id))
