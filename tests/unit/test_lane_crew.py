"""Who works side by side, and how one of them has the others come to the end of their step."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest

from apps.agents.nodes.lane_crew import Crew, LaneHeld
from apps.agents.types import HandOver

ONE, OTHER, THIRD = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()


def run(main: Callable[[Crew], Awaitable[None]], *, leaving: Callable[[], bool] = lambda: False) -> None:
    async def whole() -> None:
        crew = Crew(leaving=leaving)
        try:
            await asyncio.wait_for(main(crew), 20)
        finally:
            await crew.end()
        assert len(crew) == 0

    asyncio.run(whole())


async def all_ended(crew: Crew) -> list[BaseException]:
    errors: list[BaseException] = []
    while len(crew):
        errors += await crew.ended()
    return errors


async def steps_take(crew: Crew, task_id: uuid.UUID, done: list[str], *, seconds: float = 0.01) -> None:
    """One step after another, for ever."""
    while True:
        crew.step_begin()
        with crew.at_work(task_id):
            await asyncio.sleep(seconds)
            done.append("step")


def test_one_that_stops_the_session_waits_for_the_others_steps() -> None:
    done: list[str] = []

    async def asks(crew: Crew) -> None:
        with crew.at_work(ONE):
            await asyncio.sleep(0.05)
            await crew.settle()
            done.append("asked")

    async def main(crew: Crew) -> None:
        crew.start(OTHER, lambda: steps_take(crew, OTHER, done, seconds=0.1))
        crew.start(ONE, lambda: asks(crew))
        assert await all_ended(crew) == [] and crew.is_closing

    run(main)
    assert done == ["step", "asked"]


def test_two_that_would_stop_it_at_once_are_one_and_one_that_comes_later() -> None:
    asked: list[uuid.UUID] = []

    async def asks(crew: Crew, task_id: uuid.UUID) -> None:
        await crew.settle()
        asked.append(task_id)

    async def main(crew: Crew) -> None:
        for task_id in (ONE, OTHER):
            crew.start(task_id, lambda task_id=task_id: asks(crew, task_id))  # type: ignore[misc]
        assert await all_ended(crew) == []

    run(main)
    assert len(asked) == 1


def test_nobody_else_is_waited_for_outside_of_a_lane() -> None:
    async def main(crew: Crew) -> None:
        crew.start(ONE, lambda: steps_take(crew, ONE, []))
        await crew.settle()
        assert len(crew) == 1 and not crew.is_closing

    run(main)


def test_what_ends_a_lane_is_told_and_ends_all_where_it_is_said_so() -> None:
    async def fails() -> None:
        raise ValueError("a bug")

    async def main(crew: Crew) -> None:
        done: list[str] = []
        crew.start(ONE, fails)
        crew.start(OTHER, lambda: steps_take(crew, OTHER, done))
        [error] = await crew.ended()
        assert isinstance(error, ValueError) and OTHER in crew and ONE not in crew
        crew.close()
        assert await all_ended(crew) == []

    run(main)


def test_a_worker_that_leaves_ends_each_between_two_steps() -> None:
    async def main(crew: Crew) -> None:
        crew.start(ONE, lambda: steps_take(crew, ONE, []))
        [error] = await all_ended(crew)
        assert isinstance(error, HandOver)

    run(main, leaving=lambda: True)


def test_what_others_hold_is_waited_for_while_somebody_is_in_a_step() -> None:
    done: list[str] = []

    async def wants(crew: Crew) -> None:
        done.append("room" if await crew.room_await() else "none")

    async def once(crew: Crew) -> None:
        with crew.at_work(OTHER):
            await asyncio.sleep(0.05)
            done.append("step")

    async def main(crew: Crew) -> None:
        crew.start(OTHER, lambda: once(crew))
        await asyncio.sleep(0.01)
        crew.start(ONE, lambda: wants(crew))
        await all_ended(crew)
        assert not await crew.room_await(), "nobody is at work"
        crew.close()
        with pytest.raises(LaneHeld):
            crew.step_begin()
        # It hears at its next step that the session stops.
        assert await crew.room_await()

    run(main)
    assert done == ["step", "room"]


def test_those_that_have_no_room_do_not_wake_each_other() -> None:
    """Only the end of a step gives room; being refused it is none."""
    tried: list[uuid.UUID] = []

    class NoRoom(Exception):
        pass

    async def wants(crew: Crew, task_id: uuid.UUID) -> None:
        while True:
            crew.step_begin()
            try:
                with crew.at_work(task_id):
                    tried.append(task_id)
                    await asyncio.sleep(0)
                    if not done:
                        raise NoRoom
                    return
            except NoRoom:
                assert await crew.room_await()

    async def long(crew: Crew) -> None:
        with crew.at_work(THIRD):
            await asyncio.sleep(0.1)
            done.append("step")

    async def main(crew: Crew) -> None:
        crew.start(THIRD, lambda: long(crew))
        await asyncio.sleep(0)
        for task_id in (ONE, OTHER):
            crew.start(task_id, lambda task_id=task_id: wants(crew, task_id))  # type: ignore[misc]
        assert await all_ended(crew) == []

    done: list[str] = []
    run(main)
    assert sorted(tried) == sorted([ONE, OTHER] * 2)
