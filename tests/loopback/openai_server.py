"""A real HTTP server that speaks the OpenAI chat protocol on the loopback interface.

It refuses what the real API would refuse (see ``openai_schema``), streams over the wire or answers plain JSON, and
takes what it says from a Python callable, which sees the whole request: an answer can be worked out from what the tools
said.

    with OpenAIServer(lambda request: Reply(text="Hello")) as server:
        ...  # server.base_url, server.requests

    python -m tests.loopback.openai_server --port 0 --script my_answers.py     # a file that defines `answer(request)`
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import runpy
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from .openai_schema import request_problem

Failure = Literal["unauthorized", "not_found", "rate_limited", "server_error", "bad_request", "cut", "hang", "empty"]
_ids = itertools.count(1)


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
    """A request that was valid."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body["messages"])

    @property
    def tools(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.body.get("tools", ())]

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    @property
    def system(self) -> str:
        return "\n".join(_text(m) for m in self.messages if m["role"] in ("system", "developer"))

    @property
    def user(self) -> str:
        """What the first user message says."""
        return next((_text(m) for m in self.messages if m["role"] == "user"), "")

    def results(self, tool: str | None = None) -> list[str]:
        """What the tools (or the one) answered, oldest first."""
        names = {call["id"]: call["function"]["name"] for m in self.messages for call in m.get("tool_calls") or ()}
        return [
            _text(m)
            for m in self.messages
            if m["role"] == "tool" and (tool is None or names.get(m["tool_call_id"]) == tool)
        ]


Answer = Callable[[Request], Reply]


@dataclass
class _Log:
    requests: list[Request] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


class OpenAIServer:
    """The server; use it as a context manager. ``answer`` may be replaced while it runs."""

    def __init__(self, answer: Answer, *, port: int = 0, api_key: str | None = None) -> None:
        self.answer = answer
        self.api_key = api_key
        self._log = _Log()
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

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
    request_queue_size = 128
    owner: OpenAIServer


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
        self.server.owner._log.paths.append(self.path)
        if self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": "loopback", "object": "model", "owned_by": "test"}]})
        else:
            self._error(404, f"Unknown request URL: GET {self.path}", "invalid_request_error")

    def do_POST(self) -> None:
        owner = self.server.owner
        owner._log.paths.append(self.path)
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/v1/chat/completions":
            self._error(404, f"Unknown request URL: POST {self.path}", "invalid_request_error")
            return
        if owner.api_key is not None and self.headers.get("authorization") != f"Bearer {owner.api_key}":
            self._error(401, "Incorrect API key provided.", "invalid_api_key")
            return
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        problem = request_problem(body)
        if problem is not None:
            owner._log.refused.append(problem)
            self._error(400, problem, "invalid_request_error")
            return
        request = Request(
            body=body, headers={name.lower(): value for name, value in self.headers.items()}, path=self.path
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

    def _reply(self, request: Request, reply: Reply) -> None:
        if reply.raw is not None:
            status, headers, content = reply.raw
            self._send(status, headers, content)
        elif reply.failure == "unauthorized":
            self._error(401, reply.message or "Incorrect API key provided.", "invalid_api_key")
        elif reply.failure == "not_found":
            self._error(404, reply.message or f"The model {request.body['model']} does not exist", "model_not_found")
        elif reply.failure == "rate_limited":
            headers = {"Retry-After": reply.retry_after} if reply.retry_after is not None else {}
            self._error(429, reply.message or "Rate limit reached", "rate_limit_exceeded", headers)
        elif reply.failure == "server_error":
            self._error(500, reply.message or "The server had an error", "server_error")
        elif reply.failure == "bad_request":
            self._error(400, reply.message or "Invalid request", "invalid_request_error")
        elif reply.failure == "hang":
            self.server.owner.stopping.wait(60)
            self.close_connection = True
        elif request.body.get("stream") and not reply.plain:
            self._stream(request, reply)
        else:
            self._json(200, _completion(request, reply))

    def _stream(self, request: Request, reply: Reply) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if reply.failure != "empty":
            events = list(_events(request, reply))
            if reply.failure == "cut":
                events = events[: max(2, len(events) // 2)]
            for event in events:
                self._chunk(f"data: {json.dumps(event)}\n\n")
            if reply.failure == "cut":
                self.close_connection = True  # without the last chunk: the client sees a broken transfer
                return
            self._chunk("data: [DONE]\n\n")
        self._chunk("")

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _error(self, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> None:
        self._json(status, {"error": {"message": message, "type": code, "param": None, "code": code}}, headers)

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"content-type": "application/json", **(headers or {})}, json.dumps(document).encode())

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_loop{next(_ids):08d}" if call.id is None else call.id,
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments),
            },
        }
        for call in reply.tool_calls
    ]


def _usage(request: Request, reply: Reply) -> dict[str, Any]:
    read, written, cached = reply.usage or (
        len(json.dumps(request.body)) // 4,
        (len(reply.text) + sum(len(str(call.arguments)) for call in reply.tool_calls)) // 4 + 1,
        0,
    )
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _finish(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def _head(request: Request, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{next(_ids)}",
        "object": kind,
        "created": int(time.time()),
        "model": request.body["model"],
        "system_fingerprint": None,
    }


def _completion(request: Request, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.tool_calls:
        message["tool_calls"] = _calls(reply)
    document = _head(request, "chat.completion") | {
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}]
    }
    return document if reply.without_usage else document | {"usage": _usage(request, reply)}


def _events(request: Request, reply: Reply) -> Iterator[dict[str, Any]]:
    head = _head(request, "chat.completion.chunk")
    with_usage = bool((request.body.get("stream_options") or {}).get("include_usage")) and not reply.without_usage

    def event(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        chunk = head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        return chunk | {"usage": None} if with_usage else chunk

    yield event({"role": "assistant", "content": "" if reply.text else None, "refusal": None})
    for start in range(0, len(reply.text), 12):
        yield event({"content": reply.text[start : start + 12]})
    for index, call in enumerate(_calls(reply)):
        opening = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
        yield event({"tool_calls": [opening]})
        arguments = call["function"]["arguments"]
        for start in range(0, len(arguments), 16):
            part = {"index": index, "function": {"arguments": arguments[start : start + 16]}}
            yield event({"tool_calls": [part]})
    yield event({}, _finish(reply))
    if with_usage:
        yield head | {"choices": [], "usage": _usage(request, reply)}


def main() -> None:
    """Serve until interrupted; prints the base URL first."""
    parser = argparse.ArgumentParser(description="A loopback server of the OpenAI chat protocol.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", required=True, help="a Python file that defines answer(request) -> Reply")
    parser.add_argument("--api-key", default=None, help="refuse requests with any other key")
    arguments = parser.parse_args()
    answer = runpy.run_path(arguments.script)["answer"]
    with OpenAIServer(answer, port=arguments.port, api_key=arguments.api_key) as server:
        print(server.base_url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
