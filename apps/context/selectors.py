"""Reads of the app: how indexes and jobs stand, and which files there are."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, Max, OuterRef, Q, QuerySet, Subquery

from apps.authentication.models import User
from apps.context.models import (
    ACTIVE_JOB_STATES,
    AddedFile,
    CodeFile,
    CodeIndex,
    CodeSymbol,
    FileSummary,
    IndexEvent,
    IndexJob,
    Overlay,
    OverlayEntry,
    TreeEntry,
)
from apps.context.types import JobHead, View
from apps.core.errors import NotFound
from apps.projects.models import Project
from apps.projects.selectors import project_get_for_user, project_list


def job_get_for_user(*, user: User, job_id: uuid.UUID, write: bool = False) -> IndexJob:
    """A job in a project that the user may read (or change)."""
    job = IndexJob.objects.select_related("index").filter(id=job_id).first()
    if job is None or not project_list(user=user).filter(id=job.index.project_id).exists():
        raise NotFound("There is no such job.", next_step="GET /api/context/index/?project= lists a project's")
    project_get_for_user(user=user, project_id=job.index.project_id, write=write)
    return job


def job_list(*, project: Project) -> QuerySet[IndexJob]:
    """The project's jobs, newest first."""
    return IndexJob.objects.select_related("index").filter(index__project=project)


def job_events(*, job_id: uuid.UUID, after: int = 0, limit: int = 500) -> list[IndexEvent]:
    return list(IndexEvent.objects.filter(job_id=job_id, seq__gt=after)[:limit])


def jobs_current(*, project_id: uuid.UUID) -> list[JobHead]:
    """The project's jobs that haven't ended, and the last one, in the order of their numbers."""
    jobs = IndexJob.objects.filter(index__project_id=project_id)
    last = jobs.aggregate(last=Max("number"))["last"]
    return _heads(jobs.filter(Q(state__in=ACTIVE_JOB_STATES) | Q(number=last)))


def jobs_named(*, project_id: uuid.UUID, job_ids: Collection[uuid.UUID]) -> list[JobHead]:
    """Those of these jobs that are the project's."""
    return _heads(IndexJob.objects.filter(index__project_id=project_id, id__in=job_ids))


def jobs_after(*, project_id: uuid.UUID, number: int, limit: int) -> list[JobHead]:
    """The project's next jobs after one."""
    return _heads(IndexJob.objects.filter(index__project_id=project_id, number__gt=number), limit)


def _heads(jobs: QuerySet[IndexJob], limit: int | None = None) -> list[JobHead]:
    rows = jobs.order_by("number").values_list("id", "number", "target", "state", "seq")[:limit]
    return [JobHead(*row) for row in rows]


def jobs_looked_at(project_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, dict[str, Any]]:
    """What is another whenever a job of the project has news; one query for all of them."""
    jobs = IndexJob.objects.filter(index__project_id__in=project_ids)
    last = IndexJob.objects.filter(index=OuterRef("index")).order_by("-number").values("number")[:1]
    news: dict[uuid.UUID, dict[str, Any]] = {}
    rows = jobs.filter(Q(state__in=ACTIVE_JOB_STATES) | Q(number=Subquery(last)))
    for project_id, number, seq in rows.order_by("number").values_list("index__project_id", "number", "seq"):
        news.setdefault(project_id, {"jobs": []})["jobs"].append([number, seq])
    return news


def files_visible(view: View) -> QuerySet[CodeFile]:
    """The files that a view has, by path."""
    entries = TreeEntry.objects.filter(file=OuterRef("pk"), since__lte=view.generation).filter(
        Q(until__isnull=True) | Q(until__gt=view.generation)
    )
    files = CodeFile.objects.filter(index_id=view.index_id)
    if view.overlay_id is None:
        return files.filter(Exists(entries)).order_by("path")
    hidden = OverlayEntry.objects.filter(overlay_id=view.overlay_id, path=OuterRef("path"))
    own = OverlayEntry.objects.filter(overlay_id=view.overlay_id, file=OuterRef("pk"))
    return files.filter((Q(Exists(entries)) & ~Q(Exists(hidden))) | Q(Exists(own))).order_by("path")


def file_get_for_user(*, user: User, file_id: str) -> CodeFile:
    """A file of a project that the user may read."""
    known = file_id.isascii() and file_id.isdigit() and len(file_id) <= 18
    file = CodeFile.objects.filter(id=int(file_id)).first() if known else None
    index = CodeIndex.objects.filter(id=file.index_id).first() if file is not None else None
    if file is None or index is None or not project_list(user=user).filter(id=index.project_id).exists():
        raise NotFound("There is no such file.", next_step="GET /api/context/files/?project= lists a project's")
    return file


def file_view(file: CodeFile) -> View:
    """A view that has the file, the tree of today before a session's."""
    index = CodeIndex.objects.get(id=file.index_id)
    head = View(index.id, index.generation)
    if files_visible(head).filter(pk=file.pk).exists():
        return head
    overlay = Overlay.objects.filter(id__in=OverlayEntry.objects.filter(file=file).values("overlay_id")).first()
    return View(index.id, overlay.generation, overlay.id) if overlay is not None else head


def file_symbols(file: CodeFile) -> list[CodeSymbol]:
    return list(CodeSymbol.objects.filter(file=file).order_by("start_line", "id"))


def summary_get(file: CodeFile) -> FileSummary | None:
    """The summary of the file's content that was asked for last."""
    return FileSummary.objects.filter(index_id=file.index_id, blob=file.blob).order_by("-asked_at", "-id").first()


def added_get(file: CodeFile) -> AddedFile | None:
    """How the file was put into the context by hand, if it was."""
    return AddedFile.objects.filter(index_id=file.index_id, path=file.path).first()


@dataclass(frozen=True)
class FileAnalysis:
    """What the parser noted of a file beside its symbols."""

    #: ``(name, line, kind, within)``
    references: tuple[tuple[str, int, str, str], ...]
    #: ``(module, names, line)``
    imports: tuple[tuple[str, tuple[str, ...], int], ...]
    #: ``(line, text)``
    todos: tuple[tuple[int, str], ...]


def analysis_read(text: str) -> FileAnalysis:
    """The column ``analysis`` of a file."""
    told: dict[str, Any] = json.loads(text) if text else {}
    return FileAnalysis(
        references=tuple((name, line, kind, within) for name, line, kind, within in told.get("references", ())),
        imports=tuple((module, tuple(names), line) for module, names, line in told.get("imports", ())),
        todos=tuple((line, found) for line, found in told.get("todos", ())),
    )
