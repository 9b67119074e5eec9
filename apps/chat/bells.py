"""The bell of each stream that is watched in this process, and what makes up for the ones that got lost."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from apps.core.database import DATABASE_AWAY, AsyncDatabase
from apps.core.realtime import Hub, Message

logger = logging.getLogger(__name__)

#: Rows are looked at this often even when no bell rings, since a bell can be lost.
LOOK_SECONDS = 1.0

#: What stands in the rows of each of these streams: a message that is another one whenever there are new ones.
Look = Callable[[tuple[uuid.UUID, ...]], Mapping[uuid.UUID, Message]]


class Bells:
    """Rings for each watched stream that has new rows, within a second even where Redis said nothing.

    One look serves all of them: were each socket to look by itself, two hundred would keep a core busy.
    """

    def __init__(
        self, *, hub: Hub, database: AsyncDatabase, topic_of: Callable[[uuid.UUID], str], look: Look, what: str
    ) -> None:
        """``what`` names the streams for the log."""
        self._hub = hub
        self._database = database
        self._topic_of = topic_of
        self._look_at = look
        self._what = what
        self._watched: Counter[uuid.UUID] = Counter()
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watched(self, stream_id: uuid.UUID) -> AsyncIterator[asyncio.Queue[Message]]:
        """A queue of the stream's bells (and what else is published there) from now on."""
        async with self._hub.subscribe(self._topic_of(stream_id)) as bell:
            self._watched[stream_id] += 1
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(), name=f"look-at-{self._what}")
            try:
                yield bell
            finally:
                self._watched[stream_id] -= 1
                if not self._watched[stream_id]:
                    del self._watched[stream_id]

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        told: dict[uuid.UUID, Message] = {}
        while self._watched:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                found = dict(await self._database.run_in_thread(self._look_at, tuple(self._watched)))
            except DATABASE_AWAY as error:
                logger.warning("the %s that are watched cannot be looked at: %s", self._what, error)
                continue
            news = {stream_id: message for stream_id, message in found.items() if told.get(stream_id) != message}
            for stream_id, message in news.items():
                if not self._hub.deliver(self._topic_of(stream_id), message):
                    # Somebody is behind, and has to be told once more.
                    del found[stream_id]
            told = found
