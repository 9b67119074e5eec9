"""What the queue wakes: a repository that is to be fetched, and the sweep that finds those nobody fetches."""

from __future__ import annotations

import uuid

from celery import shared_task

from apps.projects.fetching import fetch_execute
from apps.projects.selectors import fetch_wanted_list
from apps.projects.services import repositories_prune


@shared_task(name="apps.projects.tasks.fetch_repository")
def fetch_repository(source_id: str) -> None:
    """Fetch it; the lease decides who really does."""
    fetch_execute(source_id=uuid.UUID(source_id))


@shared_task(name="apps.projects.tasks.sweep_repositories")
def sweep_repositories() -> None:
    """Wake every fetch that is wanted and that no living worker holds."""
    for source_id in fetch_wanted_list():
        fetch_repository.delay(str(source_id))


@shared_task(name="apps.projects.tasks.prune_repositories")
def prune_repositories() -> None:
    """Remove repositories whose project is gone."""
    repositories_prune()
