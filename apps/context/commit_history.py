"""The commit memory of a project: read from the server's repository, what is new each time, and kept in a row."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence

from django.utils import timezone

from apps.context.locating.memory import CommitMemory
from apps.context.models_locating import CommitHistory
from apps.projects.git import GitError, git_run
from apps.projects.repository import repository_path

logger = logging.getLogger(__name__)

#: In a request nobody waits longer; a worker reads the rest.
SECONDS_ASKED, SECONDS_BEHIND = 10, 900
_OUTPUT = 1 << 30
#: Of longer histories the newest commits are read.
_COMMITS = 200_000


def history_load(*, index_id: int) -> CommitMemory:
    """What was read before; nothing where nothing was, or where it was kept by another version."""
    row = CommitHistory.objects.filter(index_id=index_id).first()
    if row is None:
        return CommitMemory.empty()
    try:
        return CommitMemory.from_bytes(bytes(row.data))
    except ValueError:
        return CommitMemory.empty()


def history_count(*, index_id: int) -> int:
    """How many commits are kept."""
    return CommitHistory.objects.filter(index_id=index_id).values_list("commits", flat=True).first() or 0


def history_grow(*, memory: CommitMemory, index_id: int, project_id: uuid.UUID, head: str, seconds: float) -> bool:
    """Read what is new on the way to a commit, and keep it. False where that takes too long or git can't."""
    git_dir = repository_path(project_id=project_id)

    def git(arguments: Sequence[str]) -> bytes:
        return git_run(*arguments, git_dir=git_dir, timeout=seconds, max_output=_OUTPUT).stdout

    try:
        grown = memory.grow(git=git, heads=[head], limit=_COMMITS)
    except GitError as error:
        logger.info("the history could not be read: index=%s: %s", index_id, error)
        return False
    if grown:
        CommitHistory.objects.update_or_create(
            index_id=index_id,
            defaults={"data": memory.to_bytes(), "commits": len(memory.commits), "updated_at": timezone.now()},
        )
    return True
