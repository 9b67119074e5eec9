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
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from apps.agents.services.sessions import FENCE_CHANNEL
from apps.agents.types import Lease
from apps.core.database import connection_parameters

logger = logging.getLogger(__name__)

#: How often the fences are looked at: this bounds how late a revoked lease is noticed when the database can't tell it.
LOOK_SECONDS = 0.5
_KEPT: LiteralString = """
SELECT head.session_id
FROM agents_sessionhead AS head, unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS held(id, fence)
WHERE head.session_id = held.id AND head.fence = held.fence AND head.lease_expires_at IS NOT NULL
"""
# A row that a transaction holds at the moment is left to the next look: to wait for one of many while others are locked
# already would hold up these, and could make a circle with transactions that hold a budget and wait for their head row.
_RENEW: LiteralString = """
UPDATE agents_sessionhead AS head SET lease_expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE session_id IN (
    SELECT head.session_id
    FROM agents_sessionhead AS head, unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS held(id, fence)
    WHERE head.session_id = held.id AND head.fence = held.fence AND head.lease_expires_at IS NOT NULL
    FOR NO KEY UPDATE OF head SKIP LOCKED
)
RETURNING session_id
"""
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
        while not self._stopping.is_set():
            try:
                if connection is None:
                    connection = psycopg.connect(**connection_parameters(), autocommit=True, connect_timeout=3)
                    connection.execute(f"LISTEN {FENCE_CHANNEL}")
                self._await_bell(connection)
                self._look(connection)
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

    def _look(self, connection: psycopg.Connection[TupleRow]) -> None:
        now = time.monotonic()
        with self._lock:
            held = [(lease, renewed) for lease, _, renewed in self._leases.values()]
        kept = self._asked(connection, _KEPT, [lease for lease, _ in held])
        for lease, _ in held:
            if lease.session_id not in kept:
                self._lose(lease)
        due = [lease for lease, at in held if lease.session_id in kept and now - at > self._seconds / 3]
        renewed = self._asked(connection, _RENEW, due)
        with self._lock:
            for lease in due:
                current = self._leases.get(lease.session_id)
                if current is not None and current[0] == lease and lease.session_id in renewed:
                    self._leases[lease.session_id] = (lease, current[1], now)

    def _asked(
        self, connection: psycopg.Connection[TupleRow], query: LiteralString, held: list[Lease]
    ) -> set[uuid.UUID]:
        if not held:
            return set()
        ids, fences = [lease.session_id for lease in held], [lease.fence for lease in held]
        rows = connection.execute(query, {"ids": ids, "fences": fences, "seconds": self._seconds}).fetchall()
        return {row[0] for row in rows}

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
