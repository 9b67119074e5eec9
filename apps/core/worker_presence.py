"""Whether a worker is taking jobs: known by jobs that ran, not by processes that live.

Beat sends :func:`apps.core.tasks.heartbeat` through the queue every ten seconds and each worker sends one when it
starts; the task leaves a key that expires. So a key that is there proves broker, worker and Redis at once.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import bootsteps
from kombu.exceptions import OperationalError

from integrations.cache.connection import redis_client
from integrations.cache.keys import PREFIX

logger = logging.getLogger(__name__)

_KEY = f"{PREFIX}worker:seen"
#: A worker that has run no job for so long counts as gone.
SEEN_SECONDS = 30


def worker_seen_record() -> None:
    """Write that a job ran just now; raises redis.RedisError."""
    redis_client().set(_KEY, str(time.time()), ex=SEEN_SECONDS)


def worker_seen_age() -> float | None:
    """Seconds since a job last ran, or None when none did lately; raises redis.RedisError."""
    value = redis_client().get(_KEY)
    return max(0.0, time.time() - float(value)) if isinstance(value, bytes) else None


class AnnounceWorker(bootsteps.StartStopStep):
    """A worker's start-up step that puts one heartbeat into the queue, so that readiness need not wait for beat.

    Added by ``app.steps["worker"].add(AnnounceWorker)``.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        try:
            parent.app.send_task("apps.core.tasks.heartbeat", retry=False, ignore_result=True, expires=10)
        except (OperationalError, OSError) as error:
            logger.warning("the first heartbeat was not sent, beat will send the next: %s", error)
