"""Jobs of the house itself."""

from __future__ import annotations

from celery import shared_task

from apps.core.worker_presence import worker_seen_record


@shared_task(name="apps.core.tasks.heartbeat", ignore_result=True)
def heartbeat() -> None:
    """Leave the mark that a worker took a job."""
    worker_seen_record()
