"""Following a session: every event once, in order, whatever happens to the connection."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from cli.client import Api
from cli.errors import ApiError
from cli.resources import TERMINAL_STATUSES, Event
from cli.websocket import OPEN_FAILURES, websocket_address, websocket_open

#: How often a watcher comes up for air: keys, clocks and Ctrl-C are looked at then.
TICK_SECONDS = 0.2
POLL_SECONDS = 1.0
#: With the WebSocket refused, events are polled, and it is tried again after this.
WEBSOCKET_RETRY_SECONDS = 15.0
#: A server that doesn't answer at all for this long is given up.
GIVE_UP_SECONDS = 300.0
_MAX_FRAME = 64 * 1024 * 1024
_REFUSALS = {
    4400: ("the server did not understand the request to watch", "bad_frame"),
    4401: ("the server does not accept the token", "not_authenticated"),
    4403: ("you may no longer watch this session", "permission_denied"),
    4404: ("there is no such session, or it isn't yours", "not_found"),
    4408: ("the server did not hear who is watching", "not_authenticated"),
}


@dataclass(frozen=True)
class Delta:
    """Text that a model is just now writing; it comes once more, whole, in a ``ModelReplied`` event."""

    role: str
    text: str
    #: The execution and the step that it belongs to.
    speaker: tuple[str, int] = ("", 0)


@dataclass(frozen=True)
class Tick:
    """Nothing happened for a moment. ``caught_up``: every event that the server had was told."""

    caught_up: bool


@dataclass(frozen=True)
class Disconnected:
    """The connection is lost and tried again by itself."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """The session has come to an end, and all its events were told."""

    status: str


Item = Event | Delta | Tick | Disconnected | Ended


class _Lost(Exception):
    """This connection is of no more use; another may be."""


class SessionWatch:
    """Iterate over what happens in a session, from the event after ``after`` to its end.

    Events come in the order of ``seq``, none twice and none left out: a connection that breaks is taken up again after
    the last one seen, and where WebSockets don't get through, events are polled. Leaving the loop and iterating again
    goes on where it stopped. Raises ApiError when the server refuses, or has a gap in its numbers.
    """

    def __init__(self, *, api: Api, session_id: str, after: int = 0) -> None:
        self._api = api
        self._session_id = session_id
        self.last_seq = after
        self._websocket_after = 0.0

    def __iter__(self) -> Iterator[Item]:
        silent_since: float | None = None
        pause = 0.5
        while True:
            try:
                source = self._websocket() if time.monotonic() >= self._websocket_after else self._poll()
                for item in source:
                    silent_since, pause = None, 0.5
                    yield item
                    if isinstance(item, Ended):
                        return
            except _Lost as error:
                now = time.monotonic()
                silent_since = silent_since or now
                if now - silent_since > GIVE_UP_SECONDS:
                    raise ApiError(
                        f"{self._api.base_url} has not answered for {int(GIVE_UP_SECONDS)} s: {error}",
                        next_step=f"the session goes on by itself; later: archon watch {self._session_id}",
                        code="unreachable",
                    ) from error
                self._websocket_after = 0.0
                yield Disconnected(str(error))
                yield from _idle(pause, caught_up=False)
                pause = min(pause * 2, 5.0)

    # --- WebSocket ----------------------------------------------------------------------------------------------------
    def _websocket(self) -> Iterator[Item]:
        """Items of one connection, until it breaks (_Lost) or turns out to be of no use (returns: poll instead)."""
        try:
            address = websocket_address(self._api, f"/ws/agent/{self._session_id}/")
            connection = websocket_open(self._api, address, max_frame=_MAX_FRAME)
        except OPEN_FAILURES:
            # A proxy that knows no WebSockets, or nobody there: the poll tells which.
            self._websocket_after = time.monotonic() + WEBSOCKET_RETRY_SECONDS
            return
        useful = False
        with connection:
            try:
                connection.send(json.dumps({"type": "authenticate", "token": self._api.token, "after": self.last_seq}))
                for item in self._frames(connection):
                    useful = True
                    yield item
            except ConnectionClosed as error:
                reason = _closed(error)
                if useful or not isinstance(reason, _Lost):
                    raise reason from error
                self._websocket_after = time.monotonic() + WEBSOCKET_RETRY_SECONDS

    def _frames(self, connection: ClientConnection) -> Iterator[Item]:
        known = 0
        while True:
            try:
                frame = _frame_decoded(connection.recv(timeout=TICK_SECONDS))
            except TimeoutError:
                yield Tick(caught_up=self.last_seq >= known)
                continue
            kind = frame.get("type")
            if kind == "event":
                yield from self._event(frame.get("event"))
                known = max(known, self.last_seq)
            elif kind == "delta":
                step = frame.get("step")
                speaker = (str(frame.get("execution", "")), step if isinstance(step, int) else 0)
                yield Delta(role=str(frame.get("role", "")), text=str(frame.get("text", "")), speaker=speaker)
            elif kind == "ready":
                known = int(frame.get("last_seq") or 0)
            elif kind == "end":
                # What the connection may have left out is made up for before the end is believed.
                yield from self._rest()
                yield Ended(status=str(frame.get("status", "")))
                return

    # --- polling ------------------------------------------------------------------------------------------------------
    def _poll(self) -> Iterator[Item]:
        """Items by asking each second, until it is time to try a WebSocket again."""
        while time.monotonic() < self._websocket_after:
            status = yield from self._rest()
            if status in TERMINAL_STATUSES:
                yield Ended(status=status)
                return
            # A look has just shown all there was.
            yield from _idle(POLL_SECONDS, caught_up=True)

    def _rest(self) -> Generator[Event, None, str]:
        """Every event that the server has and we have not; returns the session's status as of the last look."""
        while True:
            try:
                page = self._api.event_page(self._session_id, after=self.last_seq)
            except ApiError as error:
                if error.temporary:
                    raise _Lost(error.message) from error
                raise
            for event in page.events:
                yield from self._event(event)
            if self.last_seq >= page.last_seq or not page.events:
                return page.session_status

    def _event(self, data: Any) -> Iterator[Event]:
        try:
            event = Event.model_validate(data)
        except ValidationError as error:
            raise ApiError(
                "the server sent an event that this client doesn't understand",
                next_step="see whether the client and the server are of the same version",
                code="unexpected_answer",
            ) from error
        if event.seq <= self.last_seq:
            return
        if event.seq != self.last_seq + 1:
            raise ApiError(
                f"event {self.last_seq + 1} is missing: the server went on with {event.seq}",
                next_step=f"see GET /api/agents/sessions/{self._session_id}/events/?after={self.last_seq}",
                code="event_gap",
            )
        self.last_seq = event.seq
        yield event


def _closed(error: ConnectionClosed) -> Exception:
    code = error.rcvd.code if error.rcvd else 1006
    if code in _REFUSALS:
        message, name = _REFUSALS[code]
        return ApiError(message, next_step="see ARCHON_TOKEN and `archon sessions`", code=name, status=code - 4000)
    return _Lost(f"the connection was closed ({code})")


def _frame_decoded(frame: str | bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(frame)
    except ValueError:
        raise _Lost("the server sent something that is no JSON") from None
    return decoded if isinstance(decoded, dict) else {}


def _idle(seconds: float, *, caught_up: bool) -> Iterator[Tick]:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(TICK_SECONDS, left))
        yield Tick(caught_up=caught_up)
