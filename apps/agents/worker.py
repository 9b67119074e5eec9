"""The worker process's part in sessions: get ready early, let go of them in order."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import bootsteps

logger = logging.getLogger(__name__)


class SessionHostStep(bootsteps.StartStopStep):
    """Starts the process's event loop beside the consumer, and ends its sessions when the worker stops."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:
        # In a thread, so that a worker answers its first ping before the agent stack is imported.
        self._thread = threading.Thread(target=self._warm_up, name="session-host-start", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        from apps.agents.services.session_host import session_host_stop

        if self._thread is not None:
            self._thread.join(timeout=60)
        session_host_stop()

    def _warm_up(self) -> None:
        from apps.agents.services.session_host import session_host

        try:
            session_host()
            logger.info("ready for sessions")
        # The database may be away at start: the first session tries again.
        except Exception:
            logger.exception("the session host could not be started yet")


class PublishStopStep(bootsteps.StartStopStep):
    """Lets go of what the process is publishing before its pool waits for that; another worker goes on with it."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Nothing to start: the pool's threads publish."""

    def stop(self, worker: Any) -> None:
        from apps.agents.services.publish_jobs import publishes_stop

        publishes_stop()
