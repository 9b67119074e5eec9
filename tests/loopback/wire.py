"""What loopback servers of every protocol share: requests and replies, failures, tokens with a cache, the HTTP.

A :class:`Wire` is a protocol: it says what the real API would refuse, how a conversation reads in plain words, and how
a reply looks. :class:`ModelServer` speaks one.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import select
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

Failure = Literal[
    "unauthorized",
    "not_found",
    "rate_limited",
    "quota",
    "server_error",
    "overloaded",
    "context_too_long",
    "bad_request",
    "cut",
    "hang",
    "empty",
]
_ids = itertools.count(1)
#: Prefixes shorter than this are not cached, in tokens.
SMALLEST_PREFIX = 256


def number() -> int:
    """One that this process has not used."""
    return next(_ids)


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool; arguments that are a string are sent as they are, well-formed or not."""

    name: str
    arguments: dict[str, Any] | str
    id: str | None = None


@dataclass(frozen=True)
class Reply:
    """What the model says. ``failure`` says how it fails instead (``cut``: after half of the text)."""

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    #: Input, output and cached tokens; None: by length.
    usage: tuple[int, int, int] | None = None
    #: Input tokens, of those above, that were written to the cache.
    cache_write_tokens: int = 0
    #: The endpoint reports no usage at all.
    without_usage: bool = False
    finish_reason: str | None = None
    failure: Failure | None = None
    #: Of a ``rate_limited`` or ``bad_request``: seconds to wait, what is said.
    retry_after: str | None = None
    message: str = ""
    #: Answer a streaming request with one JSON document, as some servers do.
    plain: bool = False
    #: Any HTTP response at all: status, headers, body.
    raw: tuple[int, dict[str, str], bytes] | None = None


@dataclass(frozen=True)
class Request:
    """A request that was valid; ``messages`` and ``tools`` read the same for every protocol."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    #: The conversation in the form of OpenAI's chat protocol.
    messages: Sequence[dict[str, Any]] = ()
    tools: Sequence[str] = ()
    #: The model that is asked, and whether for a stream.
    model: str = ""
    stream: bool = False

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    @property
    def system(self) -> str:
        return "\n".join(text_of(m) for m in self.messages if m["role"] in ("system", "developer"))

    @property
    def user(self) -> str:
        """What the first user message says."""
        return next((text_of(m) for m in self.messages if m["role"] == "user"), "")

    def results(self, tool: str | None = None) -> list[str]:
        """What the tools (or the one) answered, oldest first."""
        names = {call["id"]: call["function"]["name"] for m in self.messages for call in m.get("tool_calls") or ()}
        return [
            text_of(m)
            for m in self.messages
            if m["role"] == "tool" and (tool is None or names.get(m["tool_call_id"]) == tool)
        ]


@dataclass(frozen=True)
class Tokens:
    """What a reply took; ``read`` includes ``cached`` and ``kept`` (what was written to the cache)."""

    read: int = 0
    written: int = 0
    cached: int = 0
    kept: int = 0
    #: Of those written, what was thought.
    thought: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.read + other.read,
            self.written + other.written,
            self.cached + other.cached,
            self.kept + other.kept,
            self.thought + other.thought,
        )


class PrefixCache:
    """What a vendor keeps of what it has read: requests by their beginnings."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def read(self, segments: Sequence[str], marks: Sequence[int] | None) -> tuple[int, int, int]:
        """Tokens of a request: all, those found in the cache, those written to it.

        ``marks``: the places after which the client wants a beginning kept; None: kept after each segment, for nothing.
        """
        ends = range(1, len(segments) + 1) if marks is None else sorted({mark + 1 for mark in marks})
        total, sums, digest, hashes = 0, [0], hashlib.sha256(), [""]
        for segment in segments:
            total += len(segment) // 4 + 1
            sums.append(total)
            digest.update(segment.encode() + b"\0")
            hashes.append(digest.hexdigest())
        with self._lock:
            found = max((sums[end] for end in ends if hashes[end] in self._known), default=0)
            wanted = max((sums[end] for end in ends if sums[end] >= SMALLEST_PREFIX), default=0)
            self._known.update(hashes[end] for end in ends if sums[end] >= SMALLEST_PREFIX)
        return total, found, max(0, wanted - found) if marks is not None else 0


class Wire(ABC):
    """A protocol, as the real API speaks it."""

    #: What a client's base URL has after the port.
    prefix = ""
    #: What its streams end with, beside the events.
    done = ""

    @abstractmethod
    def target(self, path: str, body: Any) -> tuple[str, bool] | None:
        """The model that is asked and whether for a stream; None: there is nothing at this path."""

    @abstractmethod
    def key(self, headers: dict[str, str]) -> str:
        """The key that the client shows."""

    @abstractmethod
    def problem(self, body: Any, headers: dict[str, str], model: str) -> str | None:
        """What the real API would refuse in the request, or None."""

    @abstractmethod
    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The conversation in the form of OpenAI's chat protocol."""

    @abstractmethod
    def tools(self, body: dict[str, Any]) -> list[str]: ...

    @abstractmethod
    def segments(self, body: dict[str, Any]) -> tuple[list[str], list[int] | None]:
        """What the vendor reads, part by part, and the marks for its cache (see :class:`PrefixCache`)."""

    @abstractmethod
    def document(self, request: Request, reply: Reply, tokens: Tokens) -> dict[str, Any]:
        """The reply in one piece."""

    @abstractmethod
    def events(self, request: Request, reply: Reply, tokens: Tokens) -> Iterable[tuple[str, Any]]:
        """The reply as a stream: names (or empty) and documents."""

    @abstractmethod
    def error(self, status: int, message: str, code: str) -> dict[str, Any]:
        """The body of an error."""

    def thought_tokens(self, request: Request) -> int:
        """How much the model thinks before this reply."""
        return 0

    #: HTTP status, the vendor's code and words, by failure.
    failures: dict[str, tuple[int, str, str]] = {
        "unauthorized": (401, "invalid_api_key", "Incorrect API key provided."),
        "not_found": (404, "model_not_found", "The model does not exist"),
        "rate_limited": (429, "rate_limit_exceeded", "Rate limit reached"),
        "quota": (429, "insufficient_quota", "You exceeded your current quota, please check your plan."),
        "server_error": (500, "server_error", "The server had an error"),
        "overloaded": (503, "server_error", "The engine is currently overloaded, please try again later"),
        "context_too_long": (
            400,
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens, however you requested more",
        ),
        "bad_request": (400, "invalid_request_error", "Invalid request"),
    }
    models_path = "/v1/models"

    def models(self) -> dict[str, Any]:
        """The listing of models."""
        return {"object": "list", "data": [{"id": "loopback", "object": "model", "owned_by": "test"}]}


Answer = Callable[[Request], Reply]


@dataclass
class _Log:
    requests: list[Request] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    #: What was reported as usage.
    tokens: Tokens = Tokens()
    #: How many replies that took.
    replies: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class ModelServer:
    """Serves on a free port of the loopback interface; ``answer`` may be changed at any time."""

    def __init__(self, answer: Answer, *, wire: Wire, port: int = 0, api_key: str | None = None) -> None:
        self.answer = answer
        self.wire = wire
        self.api_key = api_key
        self.cache = PrefixCache()
        self._log = _Log()
        self.stopping = threading.Event()
        #: How often a client went away while it was kept waiting (``hang``).
        self.hangups = 0
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.wire.prefix}"

    @property
    def requests(self) -> list[Request]:
        """Valid requests, in the order of their arrival."""
        return list(self._log.requests)

    @property
    def refused(self) -> list[str]:
        """Why requests were refused; a test of a client that keeps to the protocol asserts that there are none."""
        return list(self._log.refused)

    @property
    def paths(self) -> list[str]:
        """Every path that was asked for."""
        return list(self._log.paths)

    @property
    def tokens(self) -> Tokens:
        """Everything that was reported as used."""
        return self._log.tokens

    @property
    def replies(self) -> int:
        """How many replies that took."""
        return self._log.replies

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    owner: ModelServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless it is that the client died."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        # Each event goes out when it is written: that is what a stream is.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the log of requests is for assertions."""

    def do_GET(self) -> None:
        owner = self.server.owner
        owner._log.paths.append(self.path)
        if self.path.partition("?")[0] != owner.wire.models_path:
            self._error(404, f"Unknown request URL: GET {self.path}", "invalid_request_error")
        elif owner.api_key is not None and owner.wire.key(self._headers()) != owner.api_key:
            self._fail(Reply(failure="unauthorized"))
        else:
            self._json(200, owner.wire.models())

    def do_POST(self) -> None:
        owner = self.server.owner
        owner._log.paths.append(self.path)
        length = int(self.headers.get("content-length", 0))
        raw = self.rfile.read(length)
        if len(raw) < length:
            # Whoever asks has died in the middle of it.
            self.close_connection = True
            return
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        target = owner.wire.target(self.path, body)
        if target is None:
            self._error(404, f"Unknown request URL: POST {self.path}", "invalid_request_error")
            return
        headers = self._headers()
        if owner.api_key is not None and owner.wire.key(headers) != owner.api_key:
            self._fail(Reply(failure="unauthorized"))
            return
        model, stream = target
        problem = owner.wire.problem(body, headers, model)
        if problem is not None:
            owner._log.refused.append(problem)
            self._error(400, problem, "invalid_request_error")
            return
        request = Request(
            body=body,
            headers=headers,
            path=self.path,
            messages=owner.wire.messages(body),
            tools=owner.wire.tools(body),
            model=model,
            stream=stream,
        )
        owner._log.requests.append(request)
        try:
            reply = owner.answer(request)
        except Exception as error:  # noqa: BLE001 - a test's own fault: it has to be seen, and the server goes on
            owner._log.refused.append(f"answer() raised {error!r}")
            self._error(500, f"answer() raised {error!r}", "server_error")
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client went away
            self._reply(request, reply)

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _reply(self, request: Request, reply: Reply) -> None:
        wire = self.server.owner.wire
        if reply.raw is not None:
            status, headers, content = reply.raw
            self._send(status, headers, content)
        elif reply.failure in wire.failures:
            self._fail(reply)
        elif reply.failure == "hang":
            self._hang()
            self.close_connection = True
        elif reply.failure == "empty":
            self._stream([])
        else:
            tokens = self._tokens(request, reply)
            if not request.stream or reply.plain:
                self._json(200, wire.document(request, reply, tokens))
                return
            events = list(wire.events(request, reply, tokens))
            if reply.failure == "cut":
                self._stream(events[: max(2, len(events) // 2)], cut=True)
            else:
                self._stream(events)

    def _hang(self) -> None:
        """Say nothing for a minute, and see whether the client goes away meanwhile."""
        owner = self.server.owner
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not owner.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.01)
            with contextlib.suppress(ConnectionError):
                if not readable or self.connection.recv(1, socket.MSG_PEEK):
                    continue
            with owner._log.lock:
                owner.hangups += 1
            return

    def _tokens(self, request: Request, reply: Reply) -> Tokens:
        """What the reply is said to have taken: as it says, or by the length of what is read and written."""
        owner = self.server.owner
        if reply.usage is not None:
            read, written, cached = reply.usage
            tokens = Tokens(read, written, cached, reply.cache_write_tokens)
        else:
            read, cached, kept = owner.cache.read(*owner.wire.segments(request.body))
            said = len(reply.text) + sum(len(str(call.arguments)) for call in reply.tool_calls)
            thought = owner.wire.thought_tokens(request)
            tokens = Tokens(read, said // 4 + 1 + thought, cached, kept, thought)
        if not reply.without_usage and reply.failure is None:
            with owner._log.lock:
                owner._log.tokens += tokens
                owner._log.replies += 1
        return tokens

    def _stream(self, events: Sequence[tuple[str, Any]], *, cut: bool = False) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for name, document in events:
            self._chunk((f"event: {name}\n" if name else "") + f"data: {json.dumps(document)}\n\n")
        if cut:
            self.close_connection = True  # without the last chunk: the client sees a broken transfer
            return
        if events and self.server.owner.wire.done:
            self._chunk(self.server.owner.wire.done)
        self._chunk("")

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _fail(self, reply: Reply) -> None:
        status, code, words = self.server.owner.wire.failures[str(reply.failure)]
        headers = {"Retry-After": reply.retry_after} if reply.retry_after is not None else {}
        self._error(status, reply.message or words, code, headers)

    def _error(self, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> None:
        self._json(status, self.server.owner.wire.error(status, message, code), headers)

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"content-type": "application/json", **(headers or {})}, json.dumps(document).encode())

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def with_ids(reply: Reply, prefix: str) -> Reply:
    """The same reply, its calls with ids where they had none."""
    calls = [replace(call, id=f"{prefix}{number():08d}") if call.id is None else call for call in reply.tool_calls]
    return replace(reply, tool_calls=calls)


def arguments_text(call: ToolCall) -> str:
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
