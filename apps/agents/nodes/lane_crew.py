"""The lanes of a session that are at work: asyncio tasks of one process, under one lease.

One of them may have to wait for a person, meet a limit or fail, or the worker may have to leave. Then nothing new
starts, and each of the others comes to the end of its step first: what it has begun could not be written down after the
lease was given up.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config

from apps.agents.types import HandOver

#: Whose work this is; None: the session's own, beside no other.
_lane: ContextVar[uuid.UUID | None] = ContextVar("lane", default=None)


def task_current() -> uuid.UUID | None:
    """The task whose lane the caller is in; None: it is in none."""
    return _lane.get()


class LaneHeld(Exception):
    """The lane stands between two steps, since the session stops for another one's sake; it goes on from its rows."""


@dataclass(frozen=True)
class Lane:
    """A task that is worked on beside others, and where."""

    task_id: uuid.UUID
    #: What its worktree is called.
    name: str
    #: Where its branch began.
    start: str
    crew: Crew = field(repr=False, compare=False)


class Crew:
    """Who is at work side by side. Belongs to one event loop and one run of a session."""

    def __init__(self, *, leaving: Callable[[], bool]) -> None:
        self._leaving = leaving
        self._tasks: dict[uuid.UUID, asyncio.Task[None]] = {}
        #: Held by whoever merges: one at a time.
        self.merging = asyncio.Lock()
        #: How often people's words were delivered in this run, and up to which of these each execution has heard them.
        self.words_heard = 0
        self._heard: dict[uuid.UUID, int] = {}
        self._closing = False
        #: The one that waits for the others' end, to have the session wait then.
        self._holder: uuid.UUID | None = None
        #: Those within a step, and what is set at each end of one.
        self._busy: set[uuid.UUID] = set()
        self._stepped = asyncio.Event()

    def __contains__(self, task_id: uuid.UUID) -> bool:
        return task_id in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def is_closing(self) -> bool:
        """Whether nothing new may start."""
        return self._closing or self._leaving()

    def start(self, task_id: uuid.UUID, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have this work done beside the others'."""
        there = contextvars.copy_context()
        there.run(_lane.set, task_id)
        # Its graph is one of its own, and no part of the one whose node this is.
        there.run(var_child_runnable_config.set, None)
        loop = asyncio.get_running_loop()
        self._tasks[task_id] = loop.create_task(work(), name=f"lane {task_id}", context=there)

    async def ended(self) -> list[BaseException]:
        """Once one or more have come to an end: what ended them, but for an end of their own and a halt for others."""
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        self._tasks = {task_id: task for task_id, task in self._tasks.items() if task not in done}
        errors = [asyncio.CancelledError() if task.cancelled() else task.exception() for task in done]
        return [error for error in errors if error is not None and not isinstance(error, LaneHeld)]

    def close(self) -> None:
        """Let each come to the end of its step, and no further."""
        self._closing = True
        self._step_told()

    async def end(self) -> None:
        """End all of them at once."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    # --- Within a lane ------------------------------------------------------------------------------------------------
    def step_begin(self) -> None:
        """For places between two steps. Raises LaneHeld, or HandOver where another worker is to go on."""
        if self._leaving():
            raise HandOver("the worker stops; the session goes on from its rows")
        if self._closing:
            raise LaneHeld("the session stops for another task's sake")

    @contextmanager
    def at_work(self, task_id: uuid.UUID) -> Iterator[None]:
        """Within a step."""
        self._busy.add(task_id)
        try:
            yield
        finally:
            self._busy.discard(task_id)
        # One that was refused leaves no more room than there was: those that wait for some would wake each other.
        self._step_told()

    async def room_await(self) -> bool:
        """Wait until another lane has come to the end of a step, and holds less; False where none is in one."""
        if self._closing:
            return True
        if not self._busy:
            return False
        await self._stepped.wait()
        return True

    async def settle(self) -> None:
        """The session is about to stop for the caller's sake: returns once no other lane is at work.

        Raises LaneHeld where it stops for another one already: the caller's turn comes when it goes on.
        """
        own = task_current()
        if own is None:
            return
        if self._closing and self._holder != own:
            raise LaneHeld("the session stops for another task's sake")
        self._holder = own
        self.close()
        others = [task for task_id, task in self._tasks.items() if task_id != own]
        if others:
            await asyncio.wait(others)

    def word_heard(self) -> int:
        """People's words are delivered to one execution, and the others are to hear them too; how often so far."""
        self.words_heard += 1
        return self.words_heard

    def heard(self, execution_id: uuid.UUID, count: int) -> None:
        """The execution has heard what was delivered by the time of this count."""
        self._heard[execution_id] = count

    def has_heard(self, execution_id: uuid.UUID) -> bool:
        """Whether it has heard all that was delivered; of one that has not been asked yet nobody knows."""
        return self._heard.get(execution_id) == self.words_heard

    def _step_told(self) -> None:
        stepped, self._stepped = self._stepped, asyncio.Event()
        stepped.set()
