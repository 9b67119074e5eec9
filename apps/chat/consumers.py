"""``ws/agent/{session_id}/``: a session's events as they happen. The protocol is in docs/reference/websocket.md."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer

from apps.agents.selectors import event_list, session_get_for_user
from apps.agents.types import TERMINAL_STATUSES, SessionEventData
from apps.authentication.services.credentials import credentials_get, credentials_valid, ticket_credentials_get
from apps.authentication.types import Credentials
from apps.chat.live import Live, live_get
from apps.chat.origins import origin_allowed
from apps.core.errors import ApplicationError, InvalidInput, NotAuthenticated, NotFound, PermissionDenied
from apps.core.realtime import Message

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Close codes: 4400 and up are HTTP's statuses; 1013 asks the client to come again.
CLOSE_BAD_FRAME = 4400
CLOSE_NOT_AUTHENTICATED = 4401
CLOSE_FORBIDDEN = 4403
CLOSE_NOT_FOUND = 4404
CLOSE_SILENT = 4408
CLOSE_INTERNAL = 1011
CLOSE_TRY_AGAIN = 1013

#: Seconds until the first frame must have come.
AUTHENTICATE_SECONDS = 10.0
#: A client that doesn't take a frame for this long is closed; it resumes after the last one it has.
SEND_SECONDS = 15.0
#: How often the right to watch is checked again.
RIGHT_SECONDS = 15.0
#: Rows read at a time; what is in memory for a client never exceeds a page.
PAGE = 200

_ENDING_EVENTS = frozenset({"SessionCompleted", "SessionFailed", "SessionCancelled"})
_CLOSE_CODES: tuple[tuple[type[ApplicationError], int], ...] = (
    (NotAuthenticated, CLOSE_NOT_AUTHENTICATED),
    (PermissionDenied, CLOSE_FORBIDDEN),
    (NotFound, CLOSE_NOT_FOUND),
    (InvalidInput, CLOSE_BAD_FRAME),
)


class AgentConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One client watching one session.

    A task of its own reads rows and sends them, one page at a time, so that nothing piles up for a client that is slow;
    the channels machinery only hands in the first frame and the disconnect.
    """

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self._abandoned = asyncio.Event()

        async def receive_or_leave() -> Message:
            """The client's next message, or a disconnect made up for a client that takes nothing any more."""
            received = asyncio.ensure_future(receive())
            abandoned = asyncio.ensure_future(self._abandoned.wait())
            try:
                await asyncio.wait((received, abandoned), return_when=asyncio.FIRST_COMPLETED)
                return received.result() if received.done() else {"type": "websocket.disconnect", "code": 1013}
            finally:
                received.cancel()
                abandoned.cancel()

        await super().__call__(scope, receive_or_leave, send)

    async def connect(self) -> None:
        # Accepted before anything is checked: a close before that reaches a browser without its code.
        await self.accept()
        self._first_frame: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve(), name="watch-session")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        # Frames after the first mean nothing (yet).
        if not self._first_frame.done():
            self._first_frame.set_result(text_data)

    async def disconnect(self, code: int) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        try:
            await self._watch()
        except ApplicationError as error:
            code = next((code for kind, code in _CLOSE_CODES if isinstance(error, kind)), CLOSE_TRY_AGAIN)
            await self._close(code, error.message)
        except TimeoutError:
            await self._close(CLOSE_TRY_AGAIN, "too slow: resume after the last event you have")
        except Exception:
            # The boundary of the connection: without this the client would wait for ever on a dead task.
            logger.exception("watching a session failed")
            await self._close(CLOSE_INTERNAL, "internal error")

    async def _watch(self) -> None:
        if not origin_allowed(self.scope):
            raise PermissionDenied("this origin may not connect")
        live = live_get()
        session_id: uuid.UUID = self.scope["url_route"]["kwargs"]["session_id"]
        hello = await self._hello()
        if hello is None:
            await self._close(CLOSE_SILENT, "no authenticate frame came")
            return
        credentials_find, after = hello
        credentials = await live.database.run_in_thread(credentials_find)
        reader = SessionReader(live=live, session_id=session_id, credentials=credentials)
        # Subscribed before the first look, so that what happens in between rings the bell.
        async with live.bells.watched(session_id) as bell:
            status, last_seq = await reader.status_get()
            await self._send({"type": "ready", "last_seq": last_seq, "status": status})
            await self._follow(reader, bell, after=after, status=status)

    async def _follow(self, reader: SessionReader, bell: asyncio.Queue[Message], *, after: int, status: str) -> None:
        """Send rows and deltas until the client goes or loses the right to watch."""
        told_end = ""
        check_at = time.monotonic() + RIGHT_SECONDS
        while True:
            ending, more = False, True
            while more:
                rows = await reader.event_page(after=after)
                # Of what has come since this page, a bell tells.
                more = len(rows) == PAGE
                for row in rows:
                    await self._send({"type": "event", "event": _event_json(row)})
                    after = row.seq
                    ending = ending or row.type in _ENDING_EVENTS
                    if row.type == "SessionReopened":
                        # It may end once more, in the same way.
                        told_end = ""
            if ending or time.monotonic() >= check_at:
                check_at = time.monotonic() + RIGHT_SECONDS
                status, _ = await reader.status_get()
                # The status may be newer than the rows: look at these again before saying that it is the end.
                continue
            if status in TERMINAL_STATUSES and status != told_end:
                await self._send({"type": "end", "status": status})
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
                await self._send({"type": "delta", **message["delta"]})
            if message.get("seq", 0) > after:
                return

    async def _hello(self) -> tuple[Callable[[], Credentials], int] | None:
        """How to find out who is there, and the last event that they have; None when nothing was said in time."""
        query = parse_qs(self.scope.get("query_string", b"").decode("ascii", "replace"))
        ticket = query.get("ticket", [""])[0]
        if ticket:
            return (lambda: ticket_credentials_get(ticket)), _after_parse(query.get("after", ["0"])[0])
        try:
            async with asyncio.timeout(AUTHENTICATE_SECONDS):
                frame = await self._first_frame
        except TimeoutError:
            return None
        try:
            hello = json.loads(frame or "")
        except ValueError:
            hello = None
        if (
            not isinstance(hello, dict)
            or hello.get("type") != "authenticate"
            or not isinstance(hello.get("token"), str)
        ):
            raise InvalidInput('the first frame must be {"type": "authenticate", "token": …, "after": …}')
        token: str = hello["token"]
        return (lambda: credentials_get(token)), _after_parse(hello.get("after", 0))

    async def _send(self, frame: dict[str, Any]) -> None:
        """Send one frame; TimeoutError when the client does not take it."""
        async with asyncio.timeout(SEND_SECONDS):
            await self.send(text_data=json.dumps(frame, ensure_ascii=False, separators=(",", ":")))

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.close(code=code, reason=reason[:120])
        except TimeoutError:
            # A client that takes nothing doesn't take a close frame either. With the application at its end the server
            # drops the connection, and the client comes back when it can.
            logger.info("a client did not take its close frame (%s)", code)
            self._abandoned.set()


class SessionReader:
    """Reads one session for whom the credentials belong to, from an event loop."""

    def __init__(self, *, live: Live, session_id: uuid.UUID, credentials: Credentials) -> None:
        self._live = live
        self._session_id = session_id
        self._credentials = credentials

    async def status_get(self) -> tuple[str, int]:
        """The status and the last event's number; NotFound or NotAuthenticated when the right to watch is gone."""

        def read() -> tuple[str, int]:
            if not credentials_valid(self._credentials):
                raise NotAuthenticated("these credentials no longer hold")
            session = session_get_for_user(user=self._credentials.user, session_id=self._session_id)
            return session.status, session.head.seq

        return await self._live.database.run_in_thread(read)

    async def event_page(self, *, after: int) -> list[SessionEventData]:
        return await self._live.database.run_in_thread(event_list, session_id=self._session_id, after=after, limit=PAGE)


class UnknownAddressConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Any other address: closed as not found, where channels alone would log an error for every stray client."""

    async def connect(self) -> None:
        await self.accept()
        await self.close(code=CLOSE_NOT_FOUND, reason="there is nothing here")


def _after_parse(value: object) -> int:
    try:
        after = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        after = -1
    if not 0 <= after < 2**63 or isinstance(value, bool | float):
        raise InvalidInput("`after` must be the number of the last event that you have, or 0")
    return int(after)


def _event_json(event: SessionEventData) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "type": event.type,
        "payload": event.payload,
        "created_at": event.created_at.isoformat().replace("+00:00", "Z"),
    }
