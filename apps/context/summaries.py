"""Summaries of files as they are asked for: what a file is for, in a model's words, once for a content and a model.

A request looks whether there is a model and a file to read, and wakes a worker (``summarising``).
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Literal

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from apps.authentication.models import User
from apps.context.models import ACTIVE_JOB_STATES, CodeFile, FileState, FileSummary, IndexJob
from apps.core.errors import Conflict
from apps.core.queue import enqueue_on_commit
from apps.projects.models import Project
from apps.usage.catalogue import ChosenModel, model_choose
from apps.usage.choices import Role
from apps.usage.errors import ModelNotAvailable
from apps.usage.services import lost_calls_expire

MAKE_TASK = "apps.context.tasks.make_summary"
#: What these calls are to the ledger.
ROLE = "file_summary"
#: Whose model is called, unless one is named: it reads code and says what is in it.
_MODEL_OF: Role = "researcher"
#: For a worker to take it up and a model to answer; then it has come to nothing.
PATIENCE = timedelta(minutes=5)
_KEPT = timedelta(days=2)
_LOST_AFTER = timedelta(minutes=15)

SummaryState = Literal["making", "ready", "failed"]


class SummaryModelMissing(Conflict):
    """There is no model that could be asked."""

    code = "model_not_configured"


def summary_want(*, project: Project, user: User, file: CodeFile, model: str = "") -> FileSummary:
    """Have the content summarised by this model (or the researcher's); one that is there or under way is the one.

    The user pays, within their limits and the project's. Raises Conflict where there is no model or nothing to read.
    """
    chosen = summary_model(project=project, user=user, asked=model)
    if file.state == FileState.SKIPPED:
        raise Conflict(
            f"The file was not read: {file.reason}.",
            next_step="POST /api/context/files/ adds a file that the rules leave out",
            state=file.state,
        )
    if not file.size:
        raise Conflict("There is nothing in the file.", next_step="ask for another file's", state=file.state)
    now = timezone.now()
    with transaction.atomic():
        key = {"index_id": file.index_id, "blob": file.blob, "model": chosen.name}
        FileSummary.objects.bulk_create([FileSummary(**key, asked_at=now)], ignore_conflicts=True)
        summary = FileSummary.objects.select_for_update().get(**key)
        summary.asked_at = now
        if summary.attempt is None or summary_state(summary) == "failed":
            summary.attempt, summary.patience_until, summary.taken_at = uuid.uuid4(), now + PATIENCE, None
            summary.asked, summary.user, summary.reason = model, user, None
            enqueue_on_commit(MAKE_TASK, summary_id=str(summary.id), attempt=str(summary.attempt))
        summary.save()
    return summary


def summary_model(*, project: Project, user: User, asked: str) -> ChosenModel:
    """The model to call. Raises Conflict where there is none, and what else is wrong with the one that is asked for."""
    try:
        return model_choose(project=project, user=user, role=_MODEL_OF, asked=asked)
    except ModelNotAvailable as error:
        raise SummaryModelMissing(error.message, next_step=error.next_step) from error


def summary_state(summary: FileSummary) -> SummaryState:
    """How it stands; a try that no worker brought to an end in time has failed."""
    if summary.made_at is not None:
        return "ready"
    late = summary.patience_until is not None and summary.patience_until < timezone.now()
    return "failed" if summary.reason is not None or late else "making"


def summary_reason(summary: FileSummary) -> dict[str, Any] | None:
    """Why it failed."""
    if summary_state(summary) != "failed":
        return None
    given_up = {
        "code": "given_up",
        "message": "No worker brought it to an end in time.",
        "next_step": "See whether workers run (archon doctor), and ask for it again.",
    }
    return summary.reason or given_up


def summaries_prune() -> None:
    """Forget those of contents that no file has, and count what calls of dead processes hold as spent."""
    files = CodeFile.objects.filter(index_id=OuterRef("index_id"), blob=OuterRef("blob"))
    # A file that is being read again has no row for a while.
    at_it = IndexJob.objects.filter(index_id=OuterRef("index_id"), state__in=ACTIVE_JOB_STATES)
    over = Q(made_at__isnull=False) | Q(patience_until__lt=timezone.now())
    kept = Exists(files) | Exists(at_it) | Q(index__complete=False)
    FileSummary.objects.filter(over, ~kept, asked_at__lt=timezone.now() - _KEPT).delete()
    lost_calls_expire(role=ROLE, after=_LOST_AFTER)
