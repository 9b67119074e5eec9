"""What all sockets of a process share: one subscription, and one bounded way to the database."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass

from apps.chat.bells import Bells
from apps.core.database import AsyncDatabase
from apps.core.realtime import Hub

#: Reads at a time, over all sockets of the process; the others wait their turn.
_READERS = 4


@dataclass(frozen=True)
class Live:
    hub: Hub
    #: Only its bounded threads are used; its pool of connections stays closed.
    database: AsyncDatabase
    bells: Bells

    async def close(self) -> None:
        await self.bells.close()
        await self.hub.close()
        await self.database.close()


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Live] = weakref.WeakKeyDictionary()


def live_get() -> Live:
    """The running event loop's own; made at first use, since a hub can't be shared between loops."""
    loop = asyncio.get_running_loop()
    live = _by_loop.get(loop)
    if live is None:
        hub, database = Hub(), AsyncDatabase(max_threads=_READERS)
        live = _by_loop[loop] = Live(hub=hub, database=database, bells=Bells(hub=hub, database=database))
    return live


async def live_close() -> None:
    """Give back what the running loop holds, if anything (a server's end, a test's end)."""
    live = _by_loop.pop(asyncio.get_running_loop(), None)
    if live is not None:
        await live.close()
