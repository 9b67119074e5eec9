"""Bringing an index up to date: what a worker does that holds its lease.

The first tree of a project grows as files are read, and can be searched meanwhile. Later ones are read behind the one
that serves, and take its place whole. What was read once (the same path with the same content) is never read again, so
a job that is taken up again goes on where it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.db import close_old_connections

from apps.context import writing
from apps.context.jobs import (
    ATTEMPTS,
    index_claim,
    index_release,
    job_end,
    job_give_back,
    job_progress,
    job_take,
    job_want,
    lease_renew,
)
from apps.context.models import CodeIndex, IndexJob, JobState, JobTarget, Overlay
from apps.context.overlays import FILL_TASK, Known, added_load, overlay_make, tree_known
from apps.context.reading import FilesReader, WorkStopped
from apps.context.types import IndexGivenUp, Lease, LeaseLost, WorkFiles
from apps.context.vectors import vectors_want
from apps.context.walking import Change, TreeFile, configuration_key, tree_changes, tree_walk
from apps.context.writing import index_locked
from apps.core.database import DATABASE_AWAY
from apps.core.errors import ApplicationError, NotFound
from apps.core.kill_points import kill_point, kill_points_of
from apps.core.queue import enqueue
from apps.projects.git import GitError
from apps.projects.repository import commit_resolve, repository_path

logger = logging.getLogger(__name__)

_RENEW_SECONDS = 2.0
_PROGRESS_SECONDS = 1.0
#: Files after which statistics of the tables are taken anew.
_MUCH_FILES = 500

LOCATE_TASK = "apps.context.tasks.prepare_locating"

_stopping = threading.Event()
#: Indexes that a process does at a time: the others wait for the next sweep, and other jobs find a thread.
_slots = threading.BoundedSemaphore(2)


class _Cancelled(WorkStopped):
    """Somebody wants the job to stop."""


class _Stopped(WorkStopped):
    """The process ends; another one goes on."""


def indexes_stop() -> None:
    """Let go of what this process is indexing, for another to take up: the process ends."""
    _stopping.set()


def is_stopping() -> bool:
    """Whether this process is about to end."""
    return _stopping.is_set()


def index_run(*, index_id: int) -> None:
    """Do the jobs of an index, if nobody else is at it."""
    if _stopping.is_set() or not _slots.acquire(blocking=False):
        return
    try:
        _claimed_run(index_id)
    finally:
        _slots.release()
        close_old_connections()


def _claimed_run(index_id: int) -> None:
    lease = index_claim(index_id)
    if lease is None:
        return
    try:
        try:
            while not _stopping.is_set() and (job := job_take(lease)) is not None:
                with kill_points_of(job.id):
                    job_run(lease, job)
        finally:
            # Whatever ended it: a job that is not done is taken up again by the next sweep.
            index_release(lease)
    except (LeaseLost, CodeIndex.DoesNotExist):
        logger.info("the index %s is somebody else's now, or gone with its project", index_id)
    except DATABASE_AWAY as error:
        logger.warning("the database is away, the index %s is left to the next sweep: %s", index_id, error)


def job_run(lease: Lease, job: IndexJob) -> None:
    """See a job through, to a state that says how it ended. Raises LeaseLost, and what tells of a database away."""
    run = _Run(lease, job)
    try:
        if job.attempts > ATTEMPTS:
            raise IndexGivenUp(
                f"The job was begun {ATTEMPTS} times and never came to an end",
                next_step="Look into the workers' log for why they ended, then index again.",
            )
        if job.cancel_wanted:
            raise _Cancelled
        commit = run.head() if job.target == JobTarget.HEAD else run.session()
    except _Stopped:
        job_give_back(job)
    except _Cancelled:
        job_end(lease, job, state=JobState.CANCELLED)
    except ApplicationError as error:
        logger.info("not indexed: index=%s code=%s", lease.index_id, error.code)
        job_end(lease, job, state=JobState.FAILED, error=error)
    except (GitError, LookupError) as error:
        logger.warning("not indexed: index=%s: %s", lease.index_id, error)
        told = NotFound(
            f"The repository could not be read: {str(error)[:500]}", next_step="Fetch or import it again, then index."
        )
        job_end(lease, job, state=JobState.FAILED, error=told)
    else:
        job_end(lease, job, state=JobState.COMPLETED, commit=commit, notes=run.notes)
        if run.has_read:
            enqueue(FILL_TASK, project_id=str(run.project_id))
            enqueue(LOCATE_TASK, project_id=str(run.project_id))


class _Run:
    """One job at work."""

    def __init__(self, lease: Lease, job: IndexJob) -> None:
        self._lease = lease
        self._job = job
        self._index = CodeIndex.objects.select_related("project").get(id=lease.index_id)
        self._git_dir: Path = repository_path(project_id=self._index.project_id)
        self._reader = FilesReader(lease=lease, index_id=self._index.id, git_dir=self._git_dir, pause=self._pause)
        self._tally = self._reader.tally
        self._renewed = time.monotonic()
        self._told = 0.0
        self._configuration = ""
        self.notes: list[dict[str, str]] = []
        self.project_id = self._index.project_id

    # --- The default branch -------------------------------------------------------------------------------------------

    def head(self) -> str:
        """Have the tree be that of the default branch; the commit."""
        commit = commit_resolve(
            project_id=self._index.project_id, revision=self._job.revision or self._index.project.head_commit or "HEAD"
        )
        if self._job.rebuild:
            # What sessions have otherwise is forgotten too, and read again after this.
            for session_id, revision in Overlay.objects.filter(index=self._index).values_list("session_id", "revision"):
                job_want(
                    project=self._index.project, target=JobTarget.SESSION, session_id=session_id, revision=revision
                )
            # Once, however often the job is taken up: what was read since stays.
            writing.index_clear(lease=self._lease, job_id=self._job.id)
            self._index.refresh_from_db()
        index = self._index
        self._configuration = f"{configuration_key()}{index.added_version}"
        added = added_load(index)
        same_rules = index.configuration_key == self._configuration
        if index.complete and index.commit == commit and same_rules:
            self._tell("ready", always=True)
            return commit
        changes = None
        if index.complete and same_rules and index.commit:
            changes = tree_changes(git_dir=self._git_dir, old=index.commit, new=commit, added=added)
        if changes is None:
            self._tell("listing", always=True)
            walk = tree_walk(git_dir=self._git_dir, revision=commit, added=added, hold=self._hold)
            if walk.cut:
                self.notes.append(
                    {
                        "code": "too_many_files",
                        "message": f"The repository has more files than an index takes; the {len(walk.files)} that lie "
                        "nearest to its top are in. Name what is not code in .archonignore, or have the operator raise "
                        "ARCHON_INDEX_FILES.",
                    }
                )
            present = {file.path for file in walk.files}
            known = tree_known(index.id, None)
            changes = (
                *(Change(file.path, file) for file in walk.files),
                *(Change(path, None) for path in known if path not in present),
            )
        else:
            known = tree_known(index.id, [change.path for change in changes])
        self._head_apply(commit, changes, known)
        return commit

    def _head_apply(self, commit: str, changes: Sequence[Change], known: dict[str, Known]) -> None:
        index = self._index
        growing = not index.complete
        if growing:
            with index_locked(self._lease) as cursor:
                cursor.execute(
                    "UPDATE context_codeindex SET generation = 1, commit = %s WHERE id = %s", [commit, index.id]
                )
            index.generation = 1
        ended: list[int] = []
        added: list[TreeFile] = []
        for change in changes:
            before = known.get(change.path)
            file = change.file
            if before is not None and file is not None and (before.blob, before.parser) == (file.blob, file.parser):
                continue
            if before is not None:
                ended.append(before.entry_id)
            if file is not None:
                added.append(file)
        self._tally.files_total = len(added)
        if growing and ended:
            with index_locked(self._lease) as cursor:
                cursor.execute("DELETE FROM context_treeentry WHERE id = ANY(%s)", [ended])
        file_ids: list[int] = []

        def read(cursor: Any, found: Sequence[tuple[int, TreeFile]]) -> None:
            ids = [file_id for file_id, _ in found]
            if growing:
                writing.entries_add(cursor, lease=self._lease, file_ids=ids, since=1)
            else:
                file_ids.extend(ids)

        self._reader.read(added, read)
        kill_point("index.read")
        with index_locked(self._lease) as cursor:
            generation = index.generation if growing else index.generation + 1
            if not growing:
                writing.entries_end(cursor, entry_ids=ended, until=generation)
                writing.entries_add(cursor, lease=self._lease, file_ids=file_ids, since=generation)
            cursor.execute(
                "UPDATE context_codeindex SET generation = %s, commit = %s, complete = true,"
                " configuration_key = %s, indexed_at = clock_timestamp() WHERE id = %s",
                [generation, commit, self._configuration, index.id],
            )
            writing.entries_prune(cursor, lease=self._lease)
            # With the tree, and not after it: whoever takes the job up again finds nothing that is left to read.
            self._vectors_want()
            cursor.execute(
                "UPDATE context_indexjob SET text_ready_at = clock_timestamp() WHERE id = %s", [self._job.id]
            )
        kill_point("index.taken")
        self._tell("ready", always=True)
        writing.segments_merge(lease=self._lease)
        if self._reader.asked > _MUCH_FILES:
            writing.statistics_take()

    # --- A session's files --------------------------------------------------------------------------------------------

    def session(self) -> str:
        """Have a session's overlay be what its files are; the commit that it lies on."""
        if not self._index.complete:
            self.head()
            self._index.refresh_from_db()
        assert self._job.session_id is not None, "the database has no job of a session without one"
        overlay_make(
            lease=self._lease,
            index=self._index,
            files=WorkFiles(self._job.session_id, tree=self._job.revision),
            reader=self._reader,
            hold=self._hold,
            check=self._want_check,
        )
        self._tell("ready", always=True)
        writing.segments_merge(lease=self._lease)
        return self._index.commit

    def _want_check(self) -> None:
        if IndexJob.objects.filter(id=self._job.id, cancel_wanted=True).exists():
            raise _Cancelled

    def _vectors_want(self) -> None:
        if self.has_read:
            vectors_want(self.project_id)

    @property
    def has_read(self) -> bool:
        """Whether there is anything that may have no vector yet."""
        return self._reader.asked > 0

    def _pause(self) -> None:
        """Between two pieces of work: hold the lease, hear whether to stop, tell how far it is."""
        self._hold()
        self._tell("parsing")

    def _hold(self) -> None:
        if _stopping.is_set():
            raise _Stopped
        if time.monotonic() - self._renewed > _RENEW_SECONDS:
            self._renewed = time.monotonic()
            if lease_renew(self._lease, self._job.id):
                raise _Cancelled

    def _tell(self, phase: str, *, always: bool = False) -> None:
        if always or time.monotonic() - self._told > _PROGRESS_SECONDS:
            self._told = time.monotonic()
            job_progress(self._lease, self._job, self._tally.told(phase))
