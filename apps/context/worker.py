"""The worker process's part in indexing: let go of it when the process ends."""

from __future__ import annotations

from typing import Any

from celery import bootsteps


class IndexStopStep(bootsteps.StartStopStep):
    """Stops what the process is indexing before its pool waits for it; another worker goes on where it was."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Nothing to start: the pool's threads index."""

    def stop(self, worker: Any) -> None:
        from apps.context.indexing import indexes_stop
        from apps.context.parser_pool import parser_pool_close

        indexes_stop()
        parser_pool_close()
