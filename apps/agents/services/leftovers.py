"""What sessions leave behind that nobody needs any more: cursors of finished runs, checkouts, and what calls hold."""

from __future__ import annotations

import datetime
import logging
import uuid
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.utils import timezone

from apps.agents.models import AgentSession
from apps.agents.selectors import lanes_opened
from apps.agents.types import TERMINAL_STATUSES, SessionStatus
from apps.context.freshness import lanes_files_forget
from apps.projects.worktree import session_files_delete, session_files_list, tree_delete
from apps.usage.models import Budget
from apps.usage.services import reservations_expire

logger = logging.getLogger(__name__)

#: How long the files of a session that has ended stay, for a worker that is still letting go of them.
FILES_KEPT = datetime.timedelta(hours=1)
#: How long a call that was under way when its session stopped may still take to settle.
RESERVATIONS_KEPT = datetime.timedelta(minutes=1)
_TABLES = ("checkpoint_writes", "checkpoint_blobs", "checkpoints")


def checkpoints_prune() -> int:
    """Delete the checkpoints of sessions that have ended or are gone; no more of them can be written. How many."""
    deleted = 0
    with connection.cursor() as cursor:
        for table in _TABLES:
            cursor.execute(
                f"DELETE FROM {table} WHERE NOT EXISTS (SELECT FROM agents_agentsession AS session"
                " WHERE session.id::text = thread_id AND session.status <> ALL(%s))",
                [sorted(TERMINAL_STATUSES)],
            )
            deleted += cursor.rowcount
    return deleted


def checkpoint_delete(session_id: uuid.UUID) -> None:
    """Delete one session's cursor, inside the caller's transaction."""
    with connection.cursor() as cursor:
        for table in _TABLES:
            cursor.execute(f"DELETE FROM {table} WHERE thread_id = %s", [str(session_id)])


def reservations_prune() -> int:
    """Count what calls still hold as spent where nobody works on the session any more. How many calls that were.

    A worker that died, or that had lost its lease, may leave one under a key that nobody comes back to: after a word of
    a person's the next call has another.
    """
    quiet = timezone.now() - RESERVATIONS_KEPT
    held = Budget.objects.filter(reserved_steps__gt=0).values("scope_id")
    still = AgentSession.objects.filter(id__in=held, updated_at__lt=quiet).exclude(
        status__in=(SessionStatus.PENDING, SessionStatus.RUNNING)
    )
    return sum(reservations_expire(scope_id=session_id) for session_id in still.values_list("id", flat=True))


def images_prune() -> int:
    """Delete the images of sessions that are gone. How many sessions' that were."""
    folder = Path(settings.ARCHON_HOME) / "images"
    found = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    known = {str(row) for row in AgentSession.objects.filter(id__in=list(found)).values_list("id", flat=True)}
    gone = [path for name, path in found.items() if name not in known]
    for path in gone:
        tree_delete(path)
    return len(gone)


def session_files_prune() -> int:
    """Delete the checkouts of sessions that ended some time ago or are gone; their branches stay. How many."""
    found = set(session_files_list(home=settings.ARCHON_HOME))
    ended_since = timezone.now() - FILES_KEPT
    needed = AgentSession.objects.filter(id__in=found).exclude(finished_at__lt=ended_since)
    deleted = found - set(needed.values_list("id", flat=True))
    for session_id in deleted:
        _files_delete(session_id)
    return len(deleted)


def _files_delete(session_id: uuid.UUID) -> None:
    # Its branch stays, and can be searched; of lanes that were under way when it ended nobody asks any more.
    lanes_files_forget(session_id=session_id, lanes=lanes_opened(session_id))
    try:
        session_files_delete(session_id=session_id)
    except OSError as error:
        logger.warning("the files of session %s could not be removed: %s", session_id, error)
