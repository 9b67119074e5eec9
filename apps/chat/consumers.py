"""``ws/agent/{session_id}/``: a session's events as they happen. The protocol is in docs/reference/websocket.md."""

from __future__ import annotations

import asyncio
import time
import uuid

from apps.agents.selectors import event_list, session_get_for_user
from apps.agents.types import TERMINAL_STATUSES, SessionEventData
from apps.authentication.types import Credentials
from apps.chat import sockets
from apps.chat.live import Live
from apps.chat.sockets import Hello, WatchConsumer, after_parse, credentials_check, event_json
from apps.core.realtime import Message

_ENDING_EVENTS = frozenset({"SessionCompleted", "SessionFailed", "SessionCancelled"})


class AgentConsumer(WatchConsumer):
    """One client watching one session."""

    async def watch(self, live: Live, hello: Hello) -> None:
        session_id: uuid.UUID = self.scope["url_route"]["kwargs"]["session_id"]
        if hello.frame is None:
            after = after_parse(hello.query.get("after", [""])[0] or "0")
        else:
            after = after_parse(hello.frame.get("after", 0))
        credentials = await live.database.run_in_thread(hello.credentials_find)
        reader = SessionReader(live=live, session_id=session_id, credentials=credentials)
        # Subscribed before the first look, so that what happens in between rings the bell.
        async with live.sessions.watched(session_id) as bell:
            status, last_seq = await reader.status_get()
            await self.frame_send({"type": "ready", "last_seq": last_seq, "status": status})
            await self._follow(reader, bell, after=after, status=status)

    async def _follow(self, reader: SessionReader, bell: asyncio.Queue[Message], *, after: int, status: str) -> None:
        """Send rows and deltas until the client goes or loses the right to watch."""
        told_end = ""
        check_at = time.monotonic() + sockets.RIGHT_SECONDS
        while True:
            ending, more = False, True
            while more:
                rows = await reader.event_page(after=after)
                # Of what has come since this page, a bell tells.
                more = len(rows) == sockets.PAGE
                for row in rows:
                    await self.frame_send({"type": "event", "event": _event_json(row)})
                    after = row.seq
                    ending = ending or row.type in _ENDING_EVENTS
                    if row.type == "SessionReopened":
                        # It may end once more, in the same way.
                        told_end = ""
            if ending or time.monotonic() >= check_at:
                check_at = time.monotonic() + sockets.RIGHT_SECONDS
                status, _ = await reader.status_get()
                # The status may be newer than the rows: look at these again before saying that it is the end.
                continue
            if status in TERMINAL_STATUSES and status != told_end:
                await self.frame_send({"type": "end", "status": status})
                told_end = status
            await self._hints(bell, after=after, until=check_at)

    async def _hints(self, bell: asyncio.Queue[Message], *, after: int, until: float) -> None:
        """Pass deltas on until a bell tells of a newer row, or it is time to see whether the client may still watch."""
        while (left := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    message = await bell.get()
            except TimeoutError:
                return
            if "delta" in message:
                await self.frame_send({"type": "delta", **message["delta"]})
            if message.get("seq", 0) > after:
                return


class SessionReader:
    """Reads one session for whom the credentials belong to, from an event loop."""

    def __init__(self, *, live: Live, session_id: uuid.UUID, credentials: Credentials) -> None:
        self._live = live
        self._session_id = session_id
        self._credentials = credentials

    async def status_get(self) -> tuple[str, int]:
        """The status and the last event's number; NotFound or NotAuthenticated when the right to watch is gone."""

        def read() -> tuple[str, int]:
            credentials_check(self._credentials)
            session = session_get_for_user(user=self._credentials.user, session_id=self._session_id)
            return session.status, session.head.seq

        return await self._live.database.run_in_thread(read)

    async def event_page(self, *, after: int) -> list[SessionEventData]:
        return await self._live.database.run_in_thread(
            event_list, session_id=self._session_id, after=after, limit=sockets.PAGE
        )


def _event_json(event: SessionEventData) -> dict[str, object]:
    return event_json(seq=event.seq, kind=event.type, payload=event.payload, created_at=event.created_at)
