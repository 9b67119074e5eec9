"""Postgres from the event loop.

The hot path of a session (events, ledger, spending, checkpoints) speaks psycopg directly, on a pool that belongs to one
event loop: three ORM transactions a step cost as much again as the whole graph does. Everything else uses the ORM,
through :func:`run_in_thread` where it is called from a coroutine.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import django.db
import psycopg
from django.db import connection, connections
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from apps.core.cancellation import uninterrupted

logger = logging.getLogger(__name__)

#: How long a process waits for the database when it starts.
OPEN_SECONDS = 30.0
#: How long what has happened already (a reply that was paid for, a command that ran) is held for a database that is
#: away.
KEEP_SECONDS = 60.0
#: How long until that is tried again.
KEEP_AGAIN_SECONDS = 0.5
#: After so long a broken connection is given up and another one begun. Without it the pool's own waits double up to
#: minutes, so that after an outage of a minute it would notice a minute later that the database is back.
RECONNECT_SECONDS = 3.0

P = ParamSpec("P")
T = TypeVar("T")

Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

#: The database is away, restarts, or has no room at the moment: not the fault of what was asked of it.
DATABASE_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, django.db.OperationalError, django.db.InterfaceError)


def connection_parameters() -> dict[str, Any]:
    """What psycopg needs to reach Django's default database (the test database under test)."""
    settings = connection.settings_dict
    return {
        "dbname": settings["NAME"],
        "user": settings["USER"],
        "password": settings["PASSWORD"],
        "host": settings["HOST"],
        "port": settings["PORT"],
    }


#: What connections of an event loop call themselves.
EVENT_LOOP_NAME = "archon event loop"


async def _connect_anew(pool: AsyncConnectionPool[Any]) -> None:
    # Begins another connection where none is on its way, for those who wait already.
    await pool.check()


class AsyncDatabase:
    """A pool of psycopg connections and a bounded thread pool for the ORM, both of one event loop."""

    def __init__(
        self, *, max_connections: int = 8, max_threads: int = 4, pool_class: type[Pool] = AsyncConnectionPool
    ) -> None:
        self.pool: Pool = pool_class(
            min_size=1,
            max_size=max_connections,
            open=False,
            reconnect_timeout=RECONNECT_SECONDS,
            reconnect_failed=_connect_anew,
            connection_class=AsyncConnection[DictRow],
            kwargs={
                **connection_parameters(),
                # Told apart in pg_stat_activity from what the ORM holds.
                "application_name": EVENT_LOOP_NAME,
                "autocommit": True,
                "prepare_threshold": 0,
                "row_factory": dict_row,
            },
        )
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="orm")
        #: For what may take long: no session's own work waits behind it.
        self._slow_threads = ThreadPoolExecutor(max_threads, thread_name_prefix="orm-slow")

    async def open(self) -> None:
        await self.pool.open(wait=True, timeout=OPEN_SECONDS)

    async def close(self) -> None:
        await self.pool.close()
        self._threads.shutdown(wait=False)
        self._slow_threads.shutdown(wait=False)

    async def connections_check(self) -> None:
        """Throw out connections that broke while nobody used them, as all do when the database restarts."""
        try:
            await self.pool.check()
        except DATABASE_AWAY as error:
            logger.warning("the database is still away: %s", error)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction; commits unless the body raises.

        Statements are sent in a pipeline: one that nobody fetches from shares a round trip with those after it, and
        what it raises may come up there, or at the end.
        """
        async with self.pool.connection() as connection:
            try:
                async with connection.pipeline(), connection.transaction():
                    yield connection
            finally:
                # psycopg counts a pipeline as entered that a cancellation has kept from being entered, and never leaves
                # it: what is executed on such a connection later is committed whenever somebody else comes to sync it.
                if connection.pgconn.pipeline_status:
                    await connection.close()

    async def keep(self, write: Callable[[bool], Awaitable[T]]) -> T:
        """Write down what has happened already, and can't be had a second time; again while the database is away.

        ``write`` is told whether it was tried before. Then it has to look first: the commit may have succeeded although
        the connection broke. Being cancelled doesn't end it: whether it may still be written is for the fence to say.
        """
        return await uninterrupted(self._keep(write))

    async def _keep(self, write: Callable[[bool], Awaitable[T]]) -> T:
        now = asyncio.get_running_loop().time
        until, again = now() + KEEP_SECONDS, False
        while True:
            try:
                return await write(again)
            except DATABASE_AWAY as error:
                if now() >= until:
                    raise
                logger.warning("what has happened is not written yet, the database is away: %s", error)
            again = True
            await self.connections_check()
            await asyncio.sleep(KEEP_AGAIN_SECONDS)

    async def run_in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a synchronous function that uses the ORM; its database connection goes back afterwards.

        A thread can't be cancelled, so a caller that is waits for it: whoever comes next meets nobody still at work.
        """
        return await self._run(self._threads, function, *args, **kwargs)

    async def run_in_slow_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for what may take seconds (a search that embeds): in threads that no other work waits for."""
        return await self._run(self._slow_threads, function, *args, **kwargs)

    async def _run(self, threads: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            try:
                return function(*args, **kwargs)
            finally:
                connections.close_all()

        # As the caller, whom its context names.
        there = contextvars.copy_context()
        return await uninterrupted(asyncio.get_running_loop().run_in_executor(threads, there.run, call))
