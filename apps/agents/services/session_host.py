"""The event loop of a worker process, on which all its sessions run.

Celery hands a session over and goes on: hundreds of sessions that mostly wait fit in one process. A bounded number runs
at a time; more wait in line here, and another worker may take them meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import uuid
from concurrent.futures import Future

from django.conf import settings

from apps.agents.services.autonomous_executor import SessionExecutor
from apps.agents.services.leases import LeaseKeeper
from apps.agents.services.sessions import EXECUTE_TASK
from apps.core.database import AsyncDatabase
from apps.core.queue import enqueue
from apps.core.realtime import Hub
from apps.usage.gateway import ModelGateway

logger = logging.getLogger(__name__)


class SessionHost:
    """A thread with an event loop that lives as long as the process, and the sessions on it."""

    def __init__(self, *, sessions: int) -> None:
        self._limit = sessions
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sessions", daemon=True)
        self._tasks: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._again: set[uuid.UUID] = set()
        self._closing = False
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def start(self) -> None:
        """Raises what keeps it from working (the database is away); nothing of it stays behind then."""
        self._thread.start()
        try:
            self._call(self._open()).result(timeout=60)
        except BaseException:
            self._loop_end()
            raise

    def submit(self, session_id: uuid.UUID) -> None:
        """Run the session on the loop, after its present run if it has one. Returns at once."""
        self._loop.call_soon_threadsafe(self._submit, session_id)

    def stop(self) -> None:
        """End every session at the end of its step, so that other workers can take them up; then end the loop.

        What is not there within ``ARCHON_DRAIN_SECONDS`` is cut off.
        """
        try:
            self._call(self._close()).result(timeout=settings.ARCHON_DRAIN_SECONDS + 30)
        finally:
            self._loop_end()

    def _loop_end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._loop.close()

    def _call(self, coroutine: object) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)  # type: ignore[arg-type]

    async def _open(self) -> None:
        self._slots = asyncio.Semaphore(self._limit)
        self._database = AsyncDatabase()
        try:
            await self._database.open()
        except BaseException:
            await self._database.close()
            raise
        self._hub = Hub()
        self._gateway = ModelGateway(database=self._database)
        self._keeper = LeaseKeeper(seconds=settings.ARCHON_LEASE_SECONDS)
        self._keeper.start()
        self._executor = SessionExecutor(
            database=self._database,
            hub=self._hub,
            gateway=self._gateway,
            keeper=self._keeper,
            owner=self._owner,
        )

    def _submit(self, session_id: uuid.UUID) -> None:
        if self._closing:
            return
        if session_id in self._tasks:
            # It may be ending at this moment, paused and resumed at once: look again when it has.
            self._again.add(session_id)
            return
        task = self._loop.create_task(self._run(session_id), name=f"session {session_id}")
        self._tasks[session_id] = task
        task.add_done_callback(lambda _: self._done(session_id))

    def _done(self, session_id: uuid.UUID) -> None:
        del self._tasks[session_id]
        if session_id in self._again:
            self._again.remove(session_id)
            self._submit(session_id)

    async def _run(self, session_id: uuid.UUID) -> None:
        async with self._slots:
            try:
                await self._executor.session_execute(session_id)
            # The database or the executor itself failed: the sweeper sends the session again.
            except Exception:
                logger.exception("session %s could not be run", session_id)

    async def _close(self) -> None:
        self._closing = True
        self._executor.leave()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=settings.ARCHON_DRAIN_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session_id in self._executor.handed_over:
            # Without it they would wait for the sweep.
            enqueue(EXECUTE_TASK, session_id=str(session_id))
        self._keeper.stop()
        await self._gateway.close()
        await self._hub.close()
        await self._database.close()


_host: SessionHost | None = None
_stopped = False
_host_lock = threading.Lock()


def session_host() -> SessionHost:
    """This process's host, started when first asked for. Raises RuntimeError once the worker stops."""
    global _host
    with _host_lock:
        if _host is None:
            if _stopped:
                # A message that came last: it is sent again, to another worker.
                raise RuntimeError("this worker stops and takes no more sessions")
            host = SessionHost(sessions=settings.ARCHON_WORKER_SESSIONS)
            host.start()
            _host = host
        return _host


def session_host_stop() -> None:
    """Stop this process's host, if it has one, for good."""
    global _host, _stopped
    with _host_lock:
        _stopped = True
        if _host is not None:
            host, _host = _host, None
            host.stop()
