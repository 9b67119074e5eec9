"""What every socket does: let the client in, hear who is there, send no faster than is taken, close with a reason."""

from __future__ import annotations

import asyncio
import json
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer

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

_CLOSE_CODES: tuple[tuple[type[ApplicationError], int], ...] = (
    (NotAuthenticated, CLOSE_NOT_AUTHENTICATED),
    (PermissionDenied, CLOSE_FORBIDDEN),
    (NotFound, CLOSE_NOT_FOUND),
    (InvalidInput, CLOSE_BAD_FRAME),
)


@dataclass(frozen=True)
class Hello:
    """What a client says first: in a frame, or beside a ticket in the address."""

    #: Finds out who it is; reads the database.
    credentials_find: Callable[[], Credentials]
    #: The frame's members, or None ...
    frame: Mapping[str, Any] | None
    #: ... the address's.
    query: Mapping[str, list[str]]


class WatchConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One client watching one stream of events.

    A task of its own reads rows and sends them, one page at a time, so that nothing piles up for a client that is slow;
    the channels machinery only hands in the first frame and the disconnect.
    """

    @abstractmethod
    async def watch(self, live: Live, hello: Hello) -> None:
        """Send until the client goes; raises ApplicationError for one that may not watch, or asks for nonsense."""

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
        self._task = asyncio.create_task(self._serve(), name=type(self).__name__)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        # Frames after the first mean nothing (yet).
        if not self._first_frame.done():
            self._first_frame.set_result(text_data)

    async def disconnect(self, code: int) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def frame_send(self, frame: Mapping[str, Any]) -> None:
        """Send one frame; TimeoutError when the client does not take it."""
        async with asyncio.timeout(SEND_SECONDS):
            await self.send(text_data=json.dumps(frame, ensure_ascii=False, separators=(",", ":")))

    async def _serve(self) -> None:
        try:
            if not origin_allowed(self.scope):
                raise PermissionDenied("this origin may not connect")
            hello = await self._hello()
            if hello is None:
                await self._close(CLOSE_SILENT, "no authenticate frame came")
                return
            await self.watch(live_get(), hello)
        except ApplicationError as error:
            code = next((code for kind, code in _CLOSE_CODES if isinstance(error, kind)), CLOSE_TRY_AGAIN)
            await self._close(code, error.message)
        except TimeoutError:
            await self._close(CLOSE_TRY_AGAIN, "too slow: resume after the last event you have")
        except Exception:
            # The boundary of the connection: without this the client would wait for ever on a dead task.
            logger.exception("%s failed", type(self).__name__)
            await self._close(CLOSE_INTERNAL, "internal error")

    async def _hello(self) -> Hello | None:
        """What the client says of itself; None when nothing was said in time."""
        query = parse_qs(self.scope.get("query_string", b"").decode("ascii", "replace"), keep_blank_values=True)
        ticket = query.get("ticket", [""])[0]
        if ticket:
            return Hello(lambda: ticket_credentials_get(ticket), None, query)
        try:
            async with asyncio.timeout(AUTHENTICATE_SECONDS):
                text = await self._first_frame
        except TimeoutError:
            return None
        try:
            frame = json.loads(text or "")
        except (ValueError, RecursionError):
            frame = None
        if (
            not isinstance(frame, dict)
            or frame.get("type") != "authenticate"
            or not isinstance(frame.get("token"), str)
        ):
            raise InvalidInput('the first frame must be {"type": "authenticate", "token": …}')
        token: str = frame["token"]
        return Hello(lambda: credentials_get(token), frame, query)

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.close(code=code, reason=reason[:120])
        except TimeoutError:
            # A client that takes nothing doesn't take a close frame either. With the application at its end the server
            # drops the connection, and the client comes back when it can.
            logger.info("a client did not take its close frame (%s)", code)
            self._abandoned.set()


class UnknownAddressConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Any other address: closed as not found, where channels alone would log an error for every stray client."""

    async def connect(self) -> None:
        await self.accept()
        await self.close(code=CLOSE_NOT_FOUND, reason="there is nothing here")


def credentials_check(credentials: Credentials) -> None:
    """Raises NotAuthenticated once they were taken back."""
    if not credentials_valid(credentials):
        raise NotAuthenticated("these credentials no longer hold")


def after_parse(value: object) -> int:
    """The number of the last event that a client has. Raises InvalidInput."""
    try:
        after = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        after = -1
    if not 0 <= after < 2**63 or isinstance(value, bool | float):
        raise InvalidInput("`after` must be the number of the last event that you have, or 0")
    return int(after)


def event_json(*, seq: int, kind: str, payload: Mapping[str, Any], created_at: datetime) -> dict[str, Any]:
    """An event as the API shows it."""
    return {
        "seq": seq,
        "type": kind,
        "payload": payload,
        "created_at": created_at.isoformat().replace("+00:00", "Z"),
    }
