"""How the index hears of changes.

A merge, an import, an upload and a fetch all end in the project's ``head_commit``: the sweep compares, and whoever has
just changed it may say so at once. A session's edits come as trees that its worker has kept in the repository.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef, Q

from apps.context.jobs import job_want, jobs_cancel
from apps.context.models import (
    ACTIVE_JOB_STATES,
    CodeIndex,
    IndexJob,
    JobState,
    JobTarget,
    Overlay,
    OverlayEntry,
)
from apps.context.types import WorkFiles
from apps.context.walking import configuration_key
from apps.core.errors import Conflict
from apps.projects.models import Project, RepositoryState

logger = logging.getLogger(__name__)

_PROJECTS_A_SWEEP = 50
#: A worker that stands still may hold a row of the index: nobody who only tells of a change waits longer for it.
_LOCK_WAIT = "3s"


def heads_follow() -> None:
    """Want the index of every project whose default branch it doesn't have, unless that was tried and failed."""
    if not settings.ARCHON_INDEX_AUTO:
        return
    jobs = IndexJob.objects.filter(index__project_id=OuterRef("id"), target=JobTarget.HEAD)
    behind = (
        Q(code_index__isnull=True)
        | Q(code_index__complete=False)
        | ~Q(code_index__commit=F("head_commit"))
        | ~Q(code_index__configuration_key__startswith=configuration_key())
    )
    wanting = (
        Project.objects.filter(behind, repository_state=RepositoryState.READY)
        .exclude(head_commit="")
        .exclude(Exists(jobs.filter(state__in=ACTIVE_JOB_STATES)))
        .exclude(Exists(jobs.filter(state__in=[JobState.FAILED, JobState.CANCELLED], commit=OuterRef("head_commit"))))
    )
    for project in wanting[:_PROJECTS_A_SWEEP]:
        head_changed(project=project)


def head_changed(*, project: Project) -> None:
    """The default branch has moved: have the index follow, if it follows by itself or was made before."""
    if settings.ARCHON_INDEX_AUTO or CodeIndex.objects.filter(project=project).exists():
        try:
            with _soon():
                job_want(project=project)
        except Conflict:
            # Its repository is gone or not there yet; what brings one says so again.
            return
        except OperationalError as error:
            # The sweep compares, and says so again.
            logger.warning("the index of project %s was not told of its new head: %s", project.id, error)


def session_files_changed(*, project_id: uuid.UUID, session_id: uuid.UUID, tree: str) -> None:
    """A session's files are now those of this tree of the project's repository.

    Raises OperationalError where somebody holds the index's rows; what is said at the next change holds then.
    """
    project = Project.objects.filter(id=project_id, repository_state=RepositoryState.READY).first()
    if project is not None and (settings.ARCHON_INDEX_AUTO or CodeIndex.objects.filter(project_id=project_id).exists()):
        with _soon():
            job_want(project=project, target=JobTarget.SESSION, session_id=session_id, revision=tree)


def session_files_forget(*, session_id: uuid.UUID, lanes: Collection[str] = ()) -> None:
    """A session's files are gone, those of its lanes too: so is what the index has of them."""
    with transaction.atomic():
        jobs_cancel(session_id=session_id)
        _overlays_delete([WorkFiles(session_id).key])
        lanes_files_forget(session_id=session_id, lanes=lanes)


def lanes_files_forget(*, session_id: uuid.UUID, lanes: Collection[str]) -> None:
    """The files of these lanes of a session are gone: so is what the index has of them."""
    _overlays_delete([WorkFiles(session_id, lane).key for lane in lanes])


def _overlays_delete(keys: list[uuid.UUID]) -> None:
    with transaction.atomic():
        overlays = Overlay.objects.filter(session_id__in=keys)
        OverlayEntry.objects.filter(overlay_id__in=list(overlays.values_list("id", flat=True))).delete()
        overlays.delete()


@contextmanager
def _soon() -> Iterator[None]:
    """A transaction that waits for nobody's rows for long. Raises OperationalError."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_WAIT])
        yield
