"""What becomes of a connection whose pipeline was not left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from psycopg import pq, waiting
from psycopg._acompat import ALock
from psycopg._pipeline_async import AsyncPipeline

from apps.core.database import AsyncDatabase


class _Pipeline(AsyncPipeline):
    """Psycopg's own, but for what it sends."""

    def _sync_gen(self) -> Any:
        while not (yield waiting.Wait.W):
            pass

    def _exit_gen(self) -> Any:
        yield from ()


class _Connection:
    """Psycopg's waiting and pipelines, without a server: one that answers once it is asked to cancel."""

    wait: Any = psycopg.AsyncConnection.wait
    pipeline: Any = psycopg.AsyncConnection.pipeline
    pgconn: Any

    def __init__(self, writable: int, silent: int) -> None:
        self.lock = ALock()
        self.closed = False
        self._writable = writable
        self.pgconn = SimpleNamespace(
            transaction_status=pq.TransactionStatus.ACTIVE,
            pipeline_status=0,
            socket=silent,
            status=pq.ConnStatus.OK,
            enter_pipeline_mode=lambda: setattr(self.pgconn, "pipeline_status", 1),
            exit_pipeline_mode=lambda: setattr(self.pgconn, "pipeline_status", 0),
        )
        self._pipeline: Any = _Pipeline(cast(Any, self))

    def _check_connection_ok(self) -> None:
        return

    async def _try_cancel(self, *, timeout: float) -> None:
        self.pgconn.socket = self._writable

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self.pipeline():
            yield

    async def close(self) -> None:
        self.closed = True


async def _cancelled_at_its_beginning(connection: _Connection) -> None:
    @asynccontextmanager
    async def borrowed() -> AsyncIterator[_Connection]:
        yield connection

    database = AsyncDatabase.__new__(AsyncDatabase)
    database.pool = cast(Any, SimpleNamespace(connection=borrowed))

    async def begin() -> None:
        async with database.transaction():
            pytest.fail("it was cancelled before it began")

    task = asyncio.create_task(begin())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_connection_that_a_cancellation_left_in_its_pipeline_is_not_used_again() -> None:
    import socket

    ours, theirs = socket.socketpair()
    full, other = socket.socketpair()
    with ours, theirs, full, other:
        full.setblocking(False)
        try:
            while True:
                full.send(b"x" * 65536)
        except BlockingIOError:
            pass
        connection = _Connection(ours.fileno(), full.fileno())
        asyncio.run(_cancelled_at_its_beginning(connection))
    assert connection.closed
