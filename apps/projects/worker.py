"""The worker process's part in fetches: let go of them when it ends."""

from __future__ import annotations

from typing import Any

from celery import bootsteps


class FetchStopStep(bootsteps.StartStopStep):
    """Stops the fetches of the process before its pool waits for them; another worker goes on with them."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Nothing to start: the pool's threads fetch."""

    def stop(self, worker: Any) -> None:
        from apps.projects.fetching import fetches_stop

        fetches_stop()
