"""Forgetting what no tree has any more."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from apps.context import writing
from apps.context.jobs import index_claim, index_release
from apps.context.models import ACTIVE_JOB_STATES, CodeIndex, IndexJob, Overlay, OverlayEntry
from apps.context.types import Lease, LeaseLost
from apps.context.writing import index_locked
from apps.vector_store.errors import VectorIndexUnavailable
from apps.vector_store.spaces import vectors_delete

logger = logging.getLogger(__name__)

#: For so long a file that no tree has is kept: branches are switched to and fro, sessions undo what they did.
_FILES_KEPT = timedelta(days=2)
_OVERLAYS_KEPT = timedelta(days=14)
_JOBS_KEPT = timedelta(days=30)
#: The share of chunks that are gone at which postings are written anew.
_DEAD_SHARE = 0.2


def indexes_prune() -> None:
    """Each index that nobody is at."""
    # The last one of an index stays: the next gets the number after it.
    later = IndexJob.objects.filter(index_id=OuterRef("index_id"), number__gt=OuterRef("number"))
    old = IndexJob.objects.filter(Exists(later), created_at__lt=timezone.now() - _JOBS_KEPT)
    old.exclude(state__in=ACTIVE_JOB_STATES).delete()
    for index_id in list(CodeIndex.objects.values_list("id", flat=True)):
        lease = index_claim(index_id)
        if lease is None:
            continue
        try:
            index_prune(lease)
        except LeaseLost:
            continue
        finally:
            index_release(lease)


def index_prune(lease: Lease, *, kept: timedelta = _FILES_KEPT) -> None:
    """Delete old overlays, files that nobody has, and postings of theirs."""
    with index_locked(lease) as cursor:
        old = list(
            Overlay.objects.filter(index_id=lease.index_id, updated_at__lt=timezone.now() - _OVERLAYS_KEPT).values_list(
                "id", flat=True
            )
        )
        OverlayEntry.objects.filter(overlay_id__in=old).delete()
        Overlay.objects.filter(id__in=old).delete()
        writing.entries_prune(cursor, lease=lease)
    project_id = CodeIndex.objects.values_list("project_id", flat=True).get(id=lease.index_id)
    while chunk_ids := writing.files_unused_delete(lease=lease, before=timezone.now() - kept):
        try:
            vectors_delete(project_id=project_id, ids=[str(chunk_id) for chunk_id in chunk_ids])
        except VectorIndexUnavailable as error:
            # Vectors without a chunk are found by nobody: they cost room alone.
            logger.warning("vectors of deleted files stay behind: %s", error.message)
    if CodeIndex.objects.filter(
        id=lease.index_id, dead_documents__gt=0, dead_documents__gte=F("documents") * _DEAD_SHARE
    ).exists():
        writing.postings_compact(lease=lease)
