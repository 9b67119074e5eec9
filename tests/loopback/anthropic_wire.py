"""Anthropic's Messages protocol, as strictly as the real API takes it.

Written from the published reference of ``POST /v1/messages``: roles alternate, each ``tool_use`` has its
``tool_result`` first in the next message, at most four ``cache_control`` marks, and with thinking on the last reply
begins with the thoughts that this model signed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema

from .wire import Reply, Request, Tokens, Wire, arguments_text, number, pieces, with_ids

_STRING = {"type": "string"}
_MARK = {
    "type": "object",
    "properties": {"type": {"const": "ephemeral"}, "ttl": {"enum": ["5m", "1h"]}},
    "required": ["type"],
    "additionalProperties": False,
}


def _block(kind: str, required: list[str], *, markable: bool = True, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **({"cache_control": _MARK} if markable else {}), **properties},
        "required": ["type", *required],
        "additionalProperties": False,
    }


_TEXT = _block("text", ["text"], text={"type": "string", "pattern": r"\S"})
_IMAGE = _block(
    "image",
    ["source"],
    source={
        "type": "object",
        "properties": {
            "type": {"const": "base64"},
            "media_type": {"enum": ["image/png", "image/jpeg", "image/gif", "image/webp"]},
            "data": {"type": "string", "minLength": 4},
        },
        "required": ["type", "media_type", "data"],
        "additionalProperties": False,
    },
)
_BLOCKS: dict[str, dict[str, dict[str, Any]]] = {
    "user": {
        "text": _TEXT,
        "image": _IMAGE,
        "tool_result": _block(
            "tool_result",
            ["tool_use_id"],
            tool_use_id=_STRING,
            is_error={"type": "boolean"},
            content={"anyOf": [_STRING, {"type": "array", "items": {"anyOf": [_TEXT, _IMAGE]}}]},
        ),
    },
    "assistant": {
        "text": _TEXT,
        "thinking": _block("thinking", ["thinking", "signature"], markable=False, thinking=_STRING, signature=_STRING),
        "redacted_thinking": _block("redacted_thinking", ["data"], markable=False, data=_STRING),
        "tool_use": _block(
            "tool_use",
            ["id", "name", "input"],
            id={"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
            name={"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,128}$"},
            input={"type": "object"},
        ),
    },
}
_REQUEST = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "minLength": 1},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 64_000},
        "messages": {"type": "array", "minItems": 1},
        "system": {"anyOf": [_STRING, {"type": "array", "minItems": 1, "items": _TEXT}]},
        "tools": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,128}$"},
                    "description": _STRING,
                    "input_schema": {
                        "type": "object",
                        "properties": {"type": {"const": "object"}},
                        "required": ["type"],
                    },
                    "cache_control": _MARK,
                    "type": {"const": "custom"},
                },
                "required": ["name", "input_schema"],
                "additionalProperties": False,
            },
        },
        "tool_choice": {"type": "object"},
        "stream": {"type": "boolean"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "stop_sequences": {"type": "array"},
        "thinking": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"type": {"const": "enabled"}, "budget_tokens": {"type": "integer", "minimum": 1024}},
                    "required": ["type", "budget_tokens"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"type": {"enum": ["adaptive", "disabled"]}, "display": _STRING},
                    "required": ["type"],
                    "additionalProperties": False,
                },
            ]
        },
        "output_config": {
            "type": "object",
            "properties": {"effort": {"enum": ["low", "medium", "high"]}},
            "additionalProperties": False,
        },
        "metadata": {"type": "object"},
    },
    "required": ["model", "max_tokens", "messages"],
    "additionalProperties": False,
}
MAX_MARKS = 4


def _best(schema: dict[str, Any], value: Any) -> str | None:
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    return None if error is None else f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


class AnthropicWire(Wire):
    """Anthropic's Messages protocol."""

    failures = {
        "unauthorized": (401, "authentication_error", "invalid x-api-key"),
        "not_found": (404, "not_found_error", "model: no such model"),
        "rate_limited": (429, "rate_limit_error", "This request would exceed your rate limit"),
        "quota": (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API"),
        "server_error": (500, "api_error", "Internal server error"),
        "overloaded": (529, "overloaded_error", "Overloaded"),
        "context_too_long": (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        "bad_request": (400, "invalid_request_error", "Invalid request"),
    }

    def __init__(self) -> None:
        self.signatures: set[str] = set()

    def target(self, path: str, body: Any) -> tuple[str, bool] | None:
        if path != "/v1/messages":
            return None
        asked = body if isinstance(body, dict) else {}
        return str(asked.get("model")), bool(asked.get("stream"))

    def key(self, headers: dict[str, str]) -> str:
        return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")

    def problem(self, body: Any, headers: dict[str, str], model: str) -> str | None:
        if not re.fullmatch(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", headers.get("anthropic-version", "")):
            return "anthropic-version: header is required"
        if not self.key(headers):
            return "x-api-key: header is required"
        if (problem := _best(_REQUEST, body)) is not None:
            return problem
        thinking = body.get("thinking", {})
        if thinking.get("budget_tokens", 0) >= body["max_tokens"]:
            return "`max_tokens` must be greater than `thinking.budget_tokens`"
        if thinking and thinking["type"] != "disabled" and body.get("temperature", 1) != 1:
            return "`temperature` may only be set to 1 when thinking is enabled"
        marks = len(_marks(body))
        if marks > MAX_MARKS:
            return f"A maximum of 4 blocks with cache_control may be provided. Found {marks}."
        names = [tool["name"] for tool in body.get("tools", ())]
        if len(set(names)) != len(names):
            return "tools: Tool names must be unique."
        return self._messages_problem(body)

    def _messages_problem(self, body: dict[str, Any]) -> str | None:
        open_calls: list[str] = []
        before = ""
        for index, message in enumerate(body["messages"]):
            role = message.get("role")
            if set(message) != {"role", "content"} or role not in _BLOCKS:
                return f"messages.{index}: roles are user and assistant, with content"
            if role == before or (not before and role != "user"):
                return f"messages.{index}: roles must alternate, and begin with the user"
            before = role
            content = message["content"]
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            if not content:
                return f"messages.{index}: all messages must have non-empty content"
            for place, block in enumerate(content):
                schema = _BLOCKS[role].get(block.get("type"))
                if schema is None:
                    return f"messages.{index}.content.{place}: {block.get('type')!r} is no block of the {role}"
                if (problem := _best(schema, block)) is not None:
                    return f"messages.{index}.content.{place}.{problem}"
                if block["type"] == "thinking" and block["signature"] not in self.signatures:
                    return f"messages.{index}.content.{place}: Invalid `signature` in `thinking` block"
            answered = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
            if sorted(answered) != sorted(open_calls):
                return (
                    f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after, or"
                    f" the other way round: {sorted(set(answered) ^ set(open_calls))}"
                )
            if answered and [b["type"] for b in content[: len(answered)]] != ["tool_result"] * len(answered):
                return f"messages.{index}: `tool_result` blocks come first"
            open_calls = [block["id"] for block in content if block["type"] == "tool_use"]
        if open_calls:
            return f"messages: `tool_use` ids without `tool_result`: {open_calls}"
        if body.get("thinking", {}).get("type") == "enabled":
            replies = [message for message in body["messages"] if message["role"] == "assistant"]
            last = replies[-1]["content"] if replies else [{"type": "thinking"}]
            if isinstance(last, str) or last[0]["type"] not in ("thinking", "redacted_thinking"):
                return (
                    "Expected `thinking` or `redacted_thinking`: with `thinking` enabled, a final `assistant` message"
                    " must start with a thinking block"
                )
        return None

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if system := body.get("system"):
            messages.append({"role": "system", "content": system})
        for message in body["messages"]:
            content = message["content"]
            if isinstance(content, str):
                messages.append(message)
                continue
            if message["role"] == "assistant":
                calls = [
                    {"id": b["id"], "function": {"name": b["name"], "arguments": json.dumps(b["input"])}}
                    for b in content
                    if b["type"] == "tool_use"
                ]
                texts = [block for block in content if block["type"] == "text"]
                messages.append({"role": "assistant", "content": texts, **({"tool_calls": calls} if calls else {})})
                continue
            for block in content:
                if block["type"] == "tool_result":
                    said = block.get("content", "")
                    messages.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": said})
            rest = [block for block in content if block["type"] != "tool_result"]
            if rest:
                messages.append({"role": "user", "content": rest})
        return messages

    def tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["name"] for tool in body.get("tools", ())]

    def segments(self, body: dict[str, Any]) -> tuple[list[str], list[int] | None]:
        parts: list[str] = []
        marks: list[int] = []
        for block in _cacheable(body):
            if "cache_control" in block:
                marks.append(len(parts))
            parts.append(json.dumps({name: value for name, value in block.items() if name != "cache_control"}))
        return parts, marks

    def thought_tokens(self, request: Request) -> int:
        return 30 if _thinks(request.body) else 0

    def error(self, status: int, message: str, code: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": code, "message": message}, "request_id": f"req_{number()}"}

    def document(self, request: Request, reply: Reply, tokens: Tokens) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = []
        if _thinks(request.body):
            signature = "sig_" + hashlib.sha256(str(number()).encode()).hexdigest()
            self.signatures.add(signature)
            blocks.append({"type": "thinking", "thinking": "Let me think.", "signature": signature})
        if reply.text:
            blocks.append({"type": "text", "text": reply.text})
        for call in with_ids(reply, "toolu_").tool_calls:
            given = call.arguments if isinstance(call.arguments, dict) else {"broken": call.arguments}
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
        return {
            "id": f"msg_{number()}",
            "type": "message",
            "role": "assistant",
            "model": request.model,
            "content": blocks,
            "stop_reason": reply.finish_reason or ("tool_use" if reply.tool_calls else "end_turn"),
            "stop_sequence": None,
            "usage": _usage(tokens, reply),
        }

    def events(self, request: Request, reply: Reply, tokens: Tokens) -> Iterator[tuple[str, Any]]:
        whole = self.document(request, reply, tokens)
        texts = [arguments_text(call) for call in reply.tool_calls]
        start = whole | {"content": [], "stop_reason": None, "usage": whole["usage"] | {"output_tokens": 1}}
        yield "message_start", {"type": "message_start", "message": start}
        yield "ping", {"type": "ping"}
        for index, block in enumerate(whole["content"]):
            if block["type"] == "thinking":
                opening = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": part} for part in pieces(block["thinking"], 6)]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            elif block["type"] == "text":
                opening = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": part} for part in pieces(block["text"], 12)]
            else:
                opening = block | {"input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": part} for part in pieces(texts.pop(0), 16)]
            yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": opening}
            for delta in deltas:
                yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
            yield "content_block_stop", {"type": "content_block_stop", "index": index}
        end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        # As the vendor's documentation has it: what was read stands at the beginning, and only what was written here.
        written = {"output_tokens": whole["usage"]["output_tokens"]}
        yield "message_delta", {"type": "message_delta", "delta": end, "usage": written}
        yield "message_stop", {"type": "message_stop"}

    def models(self) -> dict[str, Any]:
        listed = {"type": "model", "id": "claude-loopback", "display_name": "L", "created_at": "2026-01-01T00:00:00Z"}
        return {"data": [listed], "has_more": False, "first_id": listed["id"], "last_id": listed["id"]}


def _usage(tokens: Tokens, reply: Reply) -> dict[str, Any]:
    if reply.without_usage:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        # As the vendor says it: without what the cache had or got.
        "input_tokens": tokens.read - tokens.cached - tokens.kept,
        "cache_creation_input_tokens": tokens.kept,
        "cache_read_input_tokens": tokens.cached,
        "output_tokens": tokens.written,
    }


def _thinks(body: dict[str, Any]) -> bool:
    return body.get("thinking", {}).get("type") in ("enabled", "adaptive")


def _cacheable(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything that the vendor reads, in its order: tools, system, messages."""
    yield from body.get("tools", ())
    system = body.get("system") or []
    yield from [{"type": "text", "text": system}] if isinstance(system, str) else system
    for message in body["messages"]:
        content = message["content"]
        yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


def _marks(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [block for block in _cacheable(body) if "cache_control" in block]
