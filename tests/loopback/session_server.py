"""A server that tells one session's events, over WebSocket and by polling, and can be made to fail as networks do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

TOKEN = "archon_loopback"


@dataclass
class SessionServer:
    """Plays ``events`` to whoever watches; what it saw is in ``connections`` and ``polls``."""

    events: list[dict[str, Any]]
    status: str = "completed"
    #: Whether WebSocket upgrades are refused, as by a proxy that knows none.
    refuse_websocket: bool = False
    #: Close each WebSocket after so many events, without the closing handshake of a clean end.
    drop_after: int | None = None
    #: Send this many events again that the client has already.
    repeat: int = 0
    #: ``after`` of each WebSocket connection, and of each poll.
    connections: list[int] = field(default_factory=list)
    polls: list[int] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve on a free loopback port; yields the base URL."""
        with serve(self._watch, "127.0.0.1", 0, process_request=self._http, close_timeout=1) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield f"http://127.0.0.1:{_port(server)}"
            server.shutdown()
            thread.join()

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        address = urlsplit(request.path)
        if address.path.startswith("/ws/"):
            return _response(502, {"title": "Bad gateway"}) if self.refuse_websocket else None
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _response(401, {"title": "Unauthorized", "detail": "no token", "code": "not_authenticated"})
        after = int(parse_qs(address.query)["after"][0])
        self.polls.append(after)
        page = [event for event in self.events if event["seq"] > after][:3]
        last_seq = self.events[-1]["seq"]
        return _response(
            200,
            {
                "events": page,
                "next_after": page[-1]["seq"] if page else after,
                "last_seq": last_seq,
                "session_status": self.status,
            },
        )

    def _watch(self, connection: ServerConnection) -> None:
        hello = json.loads(connection.recv())
        if hello.get("token") != TOKEN:
            connection.close(4401)
            return
        after = hello["after"]
        self.connections.append(after)
        _send(connection, {"type": "ready", "last_seq": self.events[-1]["seq"], "status": self.status})
        told = 0
        for event in self.events:
            if event["seq"] <= after - self.repeat:
                continue
            _send(connection, {"type": "event", "event": event})
            told += 1
            if self.drop_after is not None and told == self.drop_after:
                connection.socket.shutdown(socket.SHUT_RDWR)
                return
        _send(connection, {"type": "end", "status": self.status})
        for _ in connection:
            """Nothing more is expected; the client closes."""


def _send(connection: ServerConnection, frame: dict[str, Any]) -> None:
    connection.send(json.dumps(frame))


def _response(status: int, body: dict[str, Any]) -> Response:
    content = json.dumps(body).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(content)), "Connection": "close"})
    return Response(status, "", headers, content)


def _port(server: Server) -> int:
    return int(server.socket.getsockname()[1])
