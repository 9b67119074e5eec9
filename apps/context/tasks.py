"""What the queue wakes: indexes with work to do, and the sweep that finds those nobody is at."""

from __future__ import annotations

import uuid

from celery import shared_task
from django.db import close_old_connections

from apps.context.filling import vectors_run
from apps.context.freshness import heads_follow
from apps.context.indexing import index_run
from apps.context.jobs import jobs_wanted
from apps.context.places import locating_prepare
from apps.context.pruning import indexes_prune
from apps.context.summaries import summaries_prune
from apps.context.tree_terms import terms_prune
from apps.context.types import IndexMissing
from apps.context.vectors import vectors_due
from apps.core.errors import Unavailable
from apps.projects.models import Project

_TURN_SECONDS = 30


@shared_task(name="apps.context.tasks.run_index")
def run_index(index_id: str) -> None:
    """Do its jobs; the lease decides who really does."""
    index_run(index_id=int(index_id))


@shared_task(name="apps.context.tasks.fill_vectors")
def fill_vectors(project_id: str) -> None:
    """Embed what has no vector yet."""
    vectors_run(project_id=uuid.UUID(project_id))


@shared_task(name="apps.context.tasks.sweep_indexes")
def sweep_indexes() -> None:
    """Want what has fallen behind, and wake what is wanted and nobody holds."""
    heads_follow()
    for index_id in jobs_wanted():
        run_index.delay(str(index_id))
    for project_id in vectors_due():
        fill_vectors.delay(str(project_id))


@shared_task(name="apps.context.tasks.prepare_locating")
def prepare_locating(project_id: str) -> None:
    """Work out what locating needs of the project's files and history."""
    project = Project.objects.filter(id=project_id).first()
    if project is None:
        return
    try:
        locating_prepare(project=project)
    except IndexMissing:
        return
    except Unavailable:
        # One project at a time, and no thread of the worker waits for that.
        prepare_locating.apply_async((project_id,), countdown=_TURN_SECONDS)
    finally:
        close_old_connections()


@shared_task(name="apps.context.tasks.prune_indexes")
def prune_indexes() -> None:
    """Forget files that no tree has any more."""
    indexes_prune()
    terms_prune()
    summaries_prune()


@shared_task(name="apps.context.tasks.make_summary")
def make_summary(summary_id: str, attempt: str) -> None:
    """Have a model say what a file is for."""
    # The libraries of models take a while to load, and most processes make no summaries.
    from apps.context.summarising import summary_make

    try:
        summary_make(summary_id=int(summary_id), attempt=uuid.UUID(attempt))
    finally:
        close_old_connections()
