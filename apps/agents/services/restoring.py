"""Putting files and branch back to where a rewind wants them.

The rows of a rewind change in one transaction, and git's work can't be a part of it. So the session's row says what is
to be put back, and whoever comes first does it: the request that asked for the rewind, or the worker that takes the
session up next. Either may die in the middle; the same again is the same.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict, dataclass

from django.db import OperationalError

from apps.agents.models import AgentSession
from apps.agents.types import SessionStatus
from apps.context.freshness import session_files_changed
from apps.core.errors import ApplicationError, DiskFull
from apps.projects.git import GitError
from apps.projects.worktree import worktree_create, worktree_path
from apps.projects.worktree_snapshots import branch_put, worktree_restore, worktree_taken

logger = logging.getLogger(__name__)

#: How long a request waits for the worker that still has the files; after that the next worker puts them back.
TAKEN_SECONDS = 5.0


@dataclass(frozen=True)
class Restore:
    """What is to be put back, and for which of the session's rewinds."""

    rewind: int
    tree: str
    head: str

    @classmethod
    def read(cls, session: AgentSession) -> Restore | None:
        return cls(**session.restore) if session.restore else None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def files_restore(session_id: uuid.UUID) -> bool:
    """Put the files back now if that can be; whether nothing is left to the next worker."""
    with worktree_taken(session_id, seconds=TAKEN_SECONDS) as taken:
        session = AgentSession.objects.get(id=session_id)
        restore = Restore.read(session)
        if restore is None:
            return True
        if not taken or session.status == SessionStatus.RUNNING:
            return False
        try:
            if not worktree_path(session_id=session_id).is_dir():
                # A checkout that is made anew needs what its environment brings, which a worker knows.
                branch_put(project_id=session.project_id, branch=session.branch, commit=restore.head)
                return False
            worktree = worktree_create(
                project_id=session.project_id,
                session_id=session_id,
                branch=session.branch,
                base_commit=session.base_commit,
            )
            if not worktree_restore(worktree=worktree, tree=restore.tree, head=restore.head):
                return False
        except (GitError, OSError, DiskFull) as error:
            logger.warning("the files of session %s are left to its next worker: %s", session_id, error)
            return False
        AgentSession.objects.filter(id=session_id, restore=restore.as_dict()).update(restore=None)
    try:
        # For people who search the session's files; its agents have the index follow these by themselves.
        session_files_changed(project_id=session.project_id, session_id=session_id, tree=restore.tree)
    except (ApplicationError, OperationalError) as error:
        logger.warning("the index of session %s was not told of its files: %s", session_id, error)
    return True
