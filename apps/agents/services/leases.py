"""Keeping the leases of the sessions that this process runs.

A thread and a database connection of their own: an event loop that is busy for seconds must not lose its sessions. The
same connection hears from the database when a fence has moved, so that a pause needs nothing else to be reached.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

import psycopg
from psycopg.rows import TupleRow

from apps.agents.services.sessions import FENCE_CHANNEL
from apps.agents.types import Lease
from apps.core.database import connection_parameters

logger = logging.getLogger(__name__)

#: How often the fences are looked at: this bounds how late a revoked lease is noticed when the database can't tell it.
LOOK_SECONDS = 0.5
#: How often a keeper that waits sees whether it is to stop.
STOP_SECONDS = 0.5


class LeaseKeeper:
    """Renews leases, and tells when one is lost: revoked, taken by somebody else, or not renewable in time."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._leases: dict[uuid.UUID, tuple[Lease, Callable[[], object], float]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def hold(self, lease: Lease, on_lost: Callable[[], object]) -> None:
        """Keep the lease from now on. ``on_lost`` is called once, from the keeper's thread."""
        with self._lock:
            self._leases[lease.session_id] = (lease, on_lost, time.monotonic())

    def forget(self, lease: Lease) -> None:
        with self._lock:
            held = self._leases.get(lease.session_id)
            if held is not None and held[0] == lease:
                del self._leases[lease.session_id]

    def _run(self) -> None:
        connection: psycopg.Connection[TupleRow] | None = None
        renewed = 0.0
        while not self._stopping.is_set():
            try:
                if connection is None:
                    connection = psycopg.connect(**connection_parameters(), autocommit=True, connect_timeout=3)
                    connection.execute(f"LISTEN {FENCE_CHANNEL}")
                self._await_bell(connection)
                renew = time.monotonic() - renewed > self._seconds / 3
                self._look(connection, renew=renew)
                if renew:
                    renewed = time.monotonic()
            except psycopg.Error as error:
                logger.warning("leases cannot be renewed: %s", error)
                if connection is not None:
                    connection.close()
                connection = None
                self._expire()
                self._stopping.wait(LOOK_SECONDS)
        if connection is not None:
            connection.close()

    def _await_bell(self, connection: psycopg.Connection[TupleRow]) -> None:
        """Until a fence of ours has moved, or it is time to look."""
        until = time.monotonic() + LOOK_SECONDS
        while (left := until - time.monotonic()) > 0 and not self._stopping.is_set():
            for notice in connection.notifies(timeout=min(left, STOP_SECONDS), stop_after=1):
                with self._lock:
                    if any(str(session_id) == notice.payload for session_id in self._leases):
                        return

    def _look(self, connection: psycopg.Connection[TupleRow], *, renew: bool) -> None:
        with self._lock:
            held = [lease for lease, _, _ in self._leases.values()]
        if not held:
            return
        ids, fences = [lease.session_id for lease in held], [lease.fence for lease in held]
        pairs = "unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS held(id, fence)"
        match = "head.session_id = held.id AND head.fence = held.fence AND head.lease_expires_at IS NOT NULL"
        query = f"SELECT head.session_id FROM agents_sessionhead AS head, {pairs} WHERE {match}"
        if renew:
            query = (
                "UPDATE agents_sessionhead AS head SET lease_expires_at = now() + make_interval(secs => %(seconds)s)"
                f" FROM {pairs} WHERE {match} RETURNING head.session_id"
            )
        rows = connection.execute(
            query, {"ids": ids, "fences": fences, "seconds": self._seconds}  # pyright: ignore[reportArgumentType]
        ).fetchall()
        kept = {row[0] for row in rows}
        now = time.monotonic()
        for lease in held:
            if lease.session_id not in kept:
                self._lose(lease)
            elif renew:
                with self._lock:
                    current = self._leases.get(lease.session_id)
                    if current is not None and current[0] == lease:
                        self._leases[lease.session_id] = (lease, current[1], now)

    def _expire(self) -> None:
        """Without a database, stop before somebody else may start."""
        now = time.monotonic()
        with self._lock:
            stale = [lease for lease, _, renewed in self._leases.values() if now - renewed > self._seconds * 0.8]
        for lease in stale:
            self._lose(lease)

    def _lose(self, lease: Lease) -> None:
        with self._lock:
            held = self._leases.get(lease.session_id)
            if held is None or held[0] != lease:
                return
            del self._leases[lease.session_id]
        held[1]()
