"""Transactions on the event loop's pool, cut off where they begin."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from apps.core.database import AsyncDatabase

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


async def test_one_that_is_cancelled_wherever_leaves_a_connection_that_commits_at_once() -> None:
    database = AsyncDatabase(max_connections=1)
    await database.open()

    async def begin() -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT 1")

    try:
        for turns in range(40):
            task = asyncio.create_task(begin())
            for _ in range(turns):
                await asyncio.sleep(0)
            # The connection's answer is waited for in real time: some of these fall between BEGIN and its answer.
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            async with database.pool.connection() as connection:
                assert connection.pgconn.pipeline_status == 0, f"after {turns} turns"
    finally:
        await database.close()
