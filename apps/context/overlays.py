"""What files that are worked on are otherwise than the default branch, as overlays of its tree.

A session's own files come as jobs, after each call that changed some. Whoever is about to ask the index about files,
and knows which tree they are, has it hold that tree first (``overlay_follow``): an agent finds what it has just
written, and a lane, which has no jobs, costs nothing before its agent asks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from apps.context import writing
from apps.context.jobs import index_claim, index_release, jobs_wake
from apps.context.models import AddedFile, CodeIndex, Overlay
from apps.context.reading import FilesReader, WorkStopped
from apps.context.types import Lease, LeaseLost, WorkFiles
from apps.context.vectors import vectors_want
from apps.context.walking import Added, Change, TreeFile, tree_changes, tree_walk
from apps.context.writing import index_locked
from apps.core.kill_points import kill_point
from apps.core.queue import enqueue
from apps.projects.git import GitError
from apps.projects.models import Project
from apps.projects.repository import repository_path

logger = logging.getLogger(__name__)

FILL_TASK = "apps.context.tasks.fill_vectors"
#: How long somebody who asks waits for it, and how long one that died meanwhile has the others wait.
_FOLLOW_SECONDS = 12.0
_LEASE_SECONDS = 8
_RENEW_SECONDS = 2.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Known:
    """A path as the tree has it now."""

    entry_id: int
    file_id: int
    blob: str
    parser: int


def tree_known(index_id: int, paths: Sequence[str] | None) -> dict[str, Known]:
    """The paths (all of them, or these) as the tree has them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT file.path, entry.id, file.id, file.blob, file.parser FROM context_treeentry AS entry"
            " JOIN context_codefile AS file ON file.id = entry.file_id"
            " WHERE entry.index_id = %s AND entry.until IS NULL AND file.index_id = %s"
            + ("" if paths is None else " AND file.path = ANY(%s)"),
            [index_id, index_id, *([] if paths is None else [list(paths)])],
        )
        return {row[0]: Known(*row[1:]) for row in cursor.fetchall()}


def added_load(index: CodeIndex) -> dict[str, Added]:
    """What people have said of paths, by path."""
    rows = AddedFile.objects.filter(index=index)
    return {row.path: Added(row.blob, row.size, row.hidden) for row in rows}


def overlay_make(
    *,
    lease: Lease,
    index: CodeIndex,
    files: WorkFiles,
    reader: FilesReader,
    hold: Callable[[], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Have the overlay of these files be what their tree has otherwise than the index's, which is whole.

    ``hold`` is called again and again. ``check``: called in the transaction that writes it, may raise WorkStopped.
    """
    git_dir = repository_path(project_id=index.project_id)
    added = added_load(index)
    changes = tree_changes(git_dir=git_dir, old=index.commit, new=files.tree, added=added)
    if changes is None:
        # They changed what is ignored: then all of it is compared.
        walk = tree_walk(git_dir=git_dir, revision=files.tree, added=added, hold=hold)
        known = tree_known(index.id, None)
        present = {file.path for file in walk.files}
        changes = (
            *(
                Change(file.path, file)
                for file in walk.files
                if (before := known.get(file.path)) is None or (before.blob, before.parser) != (file.blob, file.parser)
            ),
            *(Change(path, None) for path in known if path not in present),
        )
    wanted = [change.file for change in changes if change.file is not None]
    found: dict[str, int | None] = {change.path: None for change in changes}

    def read(cursor: Any, those: Sequence[tuple[int, TreeFile]]) -> None:
        found.update({file.path: file_id for file_id, file in those})

    reader.read(wanted, read)
    kill_point("overlay.read")
    with index_locked(lease) as cursor:
        check()
        writing.overlay_write(
            cursor,
            lease=lease,
            key=files.key,
            generation=index.generation,
            commit=index.commit,
            revision=files.tree,
            files=found,
        )
        if reader.asked:
            vectors_want(index.project_id)


def overlay_follow(*, project: Project, files: WorkFiles, seconds: float = _FOLLOW_SECONDS) -> None:
    """Have the index hold the tree of these files, if that can be within so long; what was read by then stays read.

    Only what is otherwise is looked at, and of that only what nobody has read before. Whether it does hold the tree is
    for ``index_view`` to say. While the project's first commit is being read there is nothing to follow.
    """
    deadline = time.monotonic() + seconds
    while (index := _index_behind(project, files)) is not None:
        lease = index_claim(index.id, seconds=_LEASE_SECONDS)
        if lease is not None:
            _claimed_follow(lease, project, files, deadline)
            return
        if time.monotonic() > deadline:
            return
        time.sleep(_LOOK_SECONDS)


def _index_behind(project: Project, files: WorkFiles) -> CodeIndex | None:
    """The project's index, if it is whole and what it has of the files is another tree."""
    index = CodeIndex.objects.filter(project=project, complete=True).first()
    if index is None or Overlay.objects.filter(index=index, session_id=files.key, revision=files.tree).exists():
        return None
    return index


def _claimed_follow(lease: Lease, project: Project, files: WorkFiles, deadline: float) -> None:
    renewed = time.monotonic()

    def hold() -> None:
        nonlocal renewed
        now = time.monotonic()
        if now > deadline:
            raise WorkStopped
        if now - renewed > _RENEW_SECONDS:
            renewed = now
            with connection.cursor() as cursor:
                writing.lease_hold(cursor, lease)

    git_dir = repository_path(project_id=project.id)
    reader = FilesReader(lease=lease, index_id=lease.index_id, git_dir=git_dir, pause=hold)
    try:
        # Whoever had it last may have moved the tree, or done just this.
        index = _index_behind(project, files)
        if index is not None:
            overlay_make(lease=lease, index=index, files=files, reader=reader, hold=hold)
            writing.segments_merge(lease=lease)
    except (WorkStopped, LeaseLost):
        logger.info("the index of project %s does not hold the tree %s yet", project.id, files.tree)
    except (GitError, LookupError) as error:
        logger.warning("the tree %s of project %s could not be read: %s", files.tree, project.id, error)
    finally:
        index_release(lease)
        jobs_wake(lease.index_id)
        if reader.asked:
            enqueue(FILL_TASK, project_id=str(project.id))
