"""What has happened is written down through an outage of the database: once, and whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import psycopg
import pytest

from apps.core import database as module
from apps.core.database import AsyncDatabase


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_to_check(self: AsyncDatabase) -> None:
        return None

    monkeypatch.setattr(module, "KEEP_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(AsyncDatabase, "connections_check", nothing_to_check)


class Away:
    """A write that the database is away for, so many times."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.times = times
        self.error = error or psycopg.OperationalError("the connection is closed")
        self.told: list[bool] = []

    async def __call__(self, again: bool) -> str:
        self.told.append(again)
        await asyncio.sleep(0)
        if len(self.told) <= self.times:
            raise self.error
        return "written"


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


def test_it_is_tried_until_the_database_is_back_and_told_that_it_was_tried() -> None:
    async def body() -> None:
        write = Away(3)
        assert await AsyncDatabase().keep(write) == "written"
        assert write.told == [False, True, True, True]

    run(body())


def test_it_gives_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.05)

    async def body() -> None:
        with pytest.raises(psycopg.OperationalError):
            await AsyncDatabase().keep(Away(10**9))

    run(body())


def test_what_is_refused_is_not_tried_again() -> None:
    async def body() -> None:
        write = Away(1, psycopg.errors.UniqueViolation("it is there"))
        with pytest.raises(psycopg.errors.UniqueViolation):
            await AsyncDatabase().keep(write)
        assert write.told == [False]

    run(body())


def test_one_that_is_cancelled_meanwhile_has_written_it() -> None:
    async def body() -> None:
        write = Away(20)
        task = asyncio.create_task(AsyncDatabase().keep(write))
        while not write.told:
            await asyncio.sleep(0)
        task.cancel("the lease is lost")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(write.told) == 21

    run(body())
