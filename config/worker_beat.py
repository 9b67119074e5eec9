"""Beat inside the worker, for a stack on one machine.

``celery worker -B`` forks a process for it, which costs memory and outlives a worker that is killed. A thread does
neither; the jobs only wake others up. Beside several workers run ``celery -A celery_app beat`` instead.
"""

from __future__ import annotations

import os
from typing import Any

from celery import bootsteps
from celery.beat import EmbeddedService

from config.bootstrap import BEAT_SCHEDULE_VARIABLE


class BeatThreadStep(bootsteps.StartStopStep):
    """A worker's start-up step, of use when ``ARCHON_BEAT_SCHEDULE`` names a file."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._thread: Any = None

    def include_if(self, worker: Any) -> bool:
        return bool(os.environ.get(BEAT_SCHEDULE_VARIABLE))

    def start(self, worker: Any) -> None:
        self._thread = EmbeddedService(worker.app, thread=True, schedule_filename=os.environ[BEAT_SCHEDULE_VARIABLE])
        self._thread.start()

    def stop(self, worker: Any) -> None:
        if self._thread is not None:
            # Not waited for: it may sleep until the next job is due.
            self._thread.service.stop(wait=False)
