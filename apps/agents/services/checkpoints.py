"""LangGraph's checkpoints in Postgres, behind the session's fence."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from apps.agents.services.sessions import StaleFence
from apps.agents.types import Lease
from apps.core.database import Pool

#: Raised by the database function ``agents_fence_check``.
STALE_FENCE_SQLSTATE = "AR001"


class FencedSaver(AsyncPostgresSaver):
    """A saver for one lease: each write locks the session's head row and checks the fence in its own transaction.

    The check and the write travel in one round trip. A write under an older fence raises StaleFence and leaves nothing.
    """

    def __init__(self, *, pool: Pool, lease: Lease) -> None:
        super().__init__(pool)
        self._pool = pool
        self._lease = lease

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        # The parent asks for a pipeline exactly where it writes.
        if not pipeline:
            async with super()._cursor() as cursor:
                yield cursor
            return
        try:
            async with (
                self.lock,
                self._pool.connection() as connection,
                connection.pipeline(),
                connection.transaction(),
                connection.cursor(binary=True, row_factory=dict_row) as cursor,
            ):
                await cursor.execute(
                    "SELECT agents_fence_check(%s, %s)", (self._lease.session_id, self._lease.fence)
                )
                yield cursor
        except psycopg.Error as error:
            if error.sqlstate == STALE_FENCE_SQLSTATE:
                raise StaleFence(str(error)) from error
            raise


def thread_config(session_id: uuid.UUID) -> RunnableConfig:
    """Where a session's graph keeps its cursor."""
    return {"configurable": {"thread_id": str(session_id)}, "recursion_limit": 100_000}
