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
import json
import runpy
import threading
import time
from collections.abc import Iterator
from typing import Any

from .openai_schema import request_problem
from .wire import Answer, ModelServer, Reply, Request, Tokens, ToolCall, Wire, arguments_text, number, pieces, with_ids

__all__ = ["ChatWire", "OpenAIServer", "Reply", "Request", "ToolCall"]


class ChatWire(Wire):
    """The OpenAI chat protocol."""

    prefix = "/v1"
    done = "data: [DONE]\n\n"

    def target(self, path: str, body: Any) -> tuple[str, bool] | None:
        if path != "/v1/chat/completions":
            return None
        asked = body if isinstance(body, dict) else {}
        return str(asked.get("model")), bool(asked.get("stream"))

    def key(self, headers: dict[str, str]) -> str:
        return headers.get("authorization", "").removeprefix("Bearer ")

    def problem(self, body: Any, headers: dict[str, str], model: str) -> str | None:
        return request_problem(body)

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return list(body["messages"])

    def tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["function"]["name"] for tool in body.get("tools", ())]

    def segments(self, body: dict[str, Any]) -> tuple[list[str], list[int] | None]:
        return [json.dumps(body.get("tools", [])), *(json.dumps(message) for message in body["messages"])], None

    def error(self, status: int, message: str, code: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": code, "param": None, "code": code}}

    def document(self, request: Request, reply: Reply, tokens: Tokens) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
        if reply.tool_calls:
            message["tool_calls"] = _calls(reply)
        document = _head(request, "chat.completion") | {
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}]
        }
        return document if reply.without_usage else document | {"usage": _usage(tokens)}

    def events(self, request: Request, reply: Reply, tokens: Tokens) -> Iterator[tuple[str, Any]]:
        head = _head(request, "chat.completion.chunk")
        with_usage = bool((request.body.get("stream_options") or {}).get("include_usage")) and not reply.without_usage

        def event(delta: dict[str, Any], finish: str | None = None) -> tuple[str, Any]:
            chunk = head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
            return "", chunk | {"usage": None} if with_usage else chunk

        yield event({"role": "assistant", "content": "" if reply.text else None, "refusal": None})
        for part in pieces(reply.text, 12):
            yield event({"content": part})
        for index, call in enumerate(_calls(reply)):
            opening = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
            yield event({"tool_calls": [opening]})
            for part in pieces(call["function"]["arguments"], 16):
                yield event({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
        yield event({}, _finish(reply))
        if with_usage:
            yield "", head | {"choices": [], "usage": _usage(tokens)}


class OpenAIServer(ModelServer):
    """The server; use it as a context manager. ``answer`` may be replaced while it runs."""

    def __init__(self, answer: Answer, *, port: int = 0, api_key: str | None = None) -> None:
        super().__init__(answer, wire=ChatWire(), port=port, api_key=api_key)


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments_text(call)}}
        for call in with_ids(reply, "call_loop").tool_calls
    ]


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.read,
        "completion_tokens": tokens.written,
        "total_tokens": tokens.read + tokens.written,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.thought, "audio_tokens": 0},
    }


def _finish(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def _head(request: Request, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number()}",
        "object": kind,
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": None,
    }


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
