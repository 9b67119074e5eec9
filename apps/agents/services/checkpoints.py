"""LangGraph's checkpoints in Postgres, behind the session's fence."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from apps.agents.services.sessions import StaleFence
from apps.agents.types import HandOver, Lease
from apps.core.database import Pool
from apps.core.kill_points import kill_point

#: Raised by the database function ``agents_fence_check``.
STALE_FENCE_SQLSTATE = "AR001"
#: Checkpoints that one run keeps at most before it takes away those that are past.
KEPT_CHECKPOINTS = 32
_PAST = (
    "thread_id = %(thread)s AND (checkpoint_ns = %(place)s AND checkpoint_id < %(id)s"
    " OR %(place)s = '' AND checkpoint_ns <> '')"
)


class FencedSaver(AsyncPostgresSaver):
    """A saver for one lease: each write locks the session's head row and checks the fence in its own transaction.

    The check and the write travel in one round trip. A write under an older fence raises StaleFence and leaves nothing.
    Once ``leaving`` says so, a checkpoint that was written is the last one: HandOver ends the run there.
    """

    def __init__(self, *, pool: Pool, lease: Lease, leaving: Callable[[], bool] = lambda: False) -> None:
        super().__init__(pool)
        self._pool = pool
        self._lease = lease
        self._leaving = leaving
        self._written = 0

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        kill_point("checkpoint.before")
        written = await super().aput(config, checkpoint, metadata, new_versions)
        kill_point("checkpoint.written")
        self._written += 1
        if self._written % KEPT_CHECKPOINTS == 0:
            await self._past_delete(config["configurable"]["checkpoint_ns"], checkpoint["id"])
        if self._leaving():
            raise HandOver("the worker stops; the session goes on from here")
        return written

    async def _past_delete(self, place: str, checkpoint_id: str) -> None:
        """Delete what came before a checkpoint: a session goes on from the newest, and back by its rows.

        One of the outermost graph comes after all that the graphs within it have done.
        """
        past = {"thread": str(self._lease.session_id), "place": place, "id": checkpoint_id}
        async with self._cursor(pipeline=True) as cursor:
            await cursor.execute(f"DELETE FROM checkpoint_writes WHERE {_PAST}", past)
            await cursor.execute(f"DELETE FROM checkpoints WHERE {_PAST}", past)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task said outside of the state (errors, interrupts), and no more.

        A task's ordinary writes stand in the checkpoint that follows at once. Should the process die in between, its
        node runs again and finds in the rows what it did, so a second copy would buy nothing.
        """
        special = [write for write in writes if write[0] in WRITES_IDX_MAP]
        if special:
            await super().aput_writes(config, special, task_id, task_path)

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
                # Postgres takes what a pipeline sends up to its end as one transaction; no BEGIN is needed.
                connection.pipeline(),
                connection.cursor(binary=True, row_factory=dict_row) as cursor,
            ):
                await cursor.execute("SELECT agents_fence_check(%s, %s)", (self._lease.session_id, self._lease.fence))
                yield cursor
        except psycopg.Error as error:
            if error.sqlstate == STALE_FENCE_SQLSTATE:
                raise StaleFence(str(error)) from error
            raise


def thread_config(session_id: uuid.UUID) -> RunnableConfig:
    """Where a session's graph keeps its cursor."""
    return {"configurable": {"thread_id": str(session_id)}, "recursion_limit": 100_000}
