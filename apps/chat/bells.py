"""The bell of each session that is watched in this process, and what makes up for the ones that got lost."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from apps.agents.selectors import session_seq_list
from apps.agents.services.sessions import topic_of
from apps.core.database import DATABASE_AWAY, AsyncDatabase
from apps.core.realtime import Hub, Message

logger = logging.getLogger(__name__)

#: Rows are looked at this often even when no bell rings, since a bell can be lost.
LOOK_SECONDS = 1.0


class Bells:
    """Rings for each watched session that has new rows, within a second even where Redis said nothing.

    One look serves all of them: were each socket to look by itself, two hundred would keep a core busy.
    """

    def __init__(self, *, hub: Hub, database: AsyncDatabase) -> None:
        self._hub = hub
        self._database = database
        self._watched: Counter[uuid.UUID] = Counter()
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watched(self, session_id: uuid.UUID) -> AsyncIterator[asyncio.Queue[Message]]:
        """A queue of the session's bells and deltas from now on."""
        async with self._hub.subscribe(topic_of(session_id)) as bell:
            self._watched[session_id] += 1
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(), name="look-at-sessions")
            try:
                yield bell
            finally:
                self._watched[session_id] -= 1
                if not self._watched[session_id]:
                    del self._watched[session_id]

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        told: dict[uuid.UUID, int] = {}
        while self._watched:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                seqs = await self._database.run_in_thread(session_seq_list, tuple(self._watched))
            except DATABASE_AWAY as error:
                logger.warning("the sessions that are watched cannot be looked at: %s", error)
                continue
            news = {session_id: seq for session_id, seq in seqs.items() if told.get(session_id) != seq}
            for session_id, seq in news.items():
                if not self._hub.deliver(topic_of(session_id), {"seq": seq}):
                    # Somebody is behind, and has to be told once more.
                    seqs[session_id] = -1
            told = seqs
