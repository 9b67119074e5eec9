"""What all sockets of a process share: one subscription, and one bounded way to the database."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from apps.agents.selectors import session_seq_list
from apps.agents.services.sessions import topic_of as session_topic
from apps.chat.bells import Bells
from apps.context.jobs import topic_of as index_topic
from apps.context.selectors import jobs_looked_at
from apps.core.database import AsyncDatabase
from apps.core.realtime import Hub, Message

#: Reads at a time, over all sockets of the process; the others wait their turn.
_READERS = 4


@dataclass(frozen=True)
class Live:
    hub: Hub
    #: Only its bounded threads are used; its pool of connections stays closed.
    database: AsyncDatabase
    sessions: Bells
    indexes: Bells

    async def close(self) -> None:
        await self.sessions.close()
        await self.indexes.close()
        await self.hub.close()
        await self.database.close()


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Live] = weakref.WeakKeyDictionary()


def live_get() -> Live:
    """The running event loop's own; made at first use, since a hub can't be shared between loops."""
    loop = asyncio.get_running_loop()
    live = _by_loop.get(loop)
    if live is None:
        hub, database = Hub(), AsyncDatabase(max_threads=_READERS)
        live = _by_loop[loop] = Live(
            hub=hub,
            database=database,
            sessions=Bells(hub=hub, database=database, topic_of=session_topic, look=_sessions_look, what="sessions"),
            indexes=Bells(hub=hub, database=database, topic_of=index_topic, look=jobs_looked_at, what="indexes"),
        )
    return live


def _sessions_look(session_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Message]:
    return {session_id: {"seq": seq} for session_id, seq in session_seq_list(session_ids).items()}


async def live_close() -> None:
    """Give back what the running loop holds, if anything (a server's end, a test's end)."""
    live = _by_loop.pop(asyncio.get_running_loop(), None)
    if live is not None:
        await live.close()
