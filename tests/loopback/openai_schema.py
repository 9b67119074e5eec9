"""The requests of the OpenAI chat protocol, as strictly as the real API takes them.

Written from the published reference of ``POST /v1/chat/completions``: what is required, what is known, and how tool
calls and their results have to follow each other.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema

_TEXT_PARTS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
        "required": ["type", "text"],
        "additionalProperties": False,
    },
}
_IMAGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"const": "image_url"},
        "image_url": {
            "type": "object",
            "properties": {
                "url": {"type": "string", "pattern": "^(data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+$|https:)"},
                "detail": {"enum": ["auto", "low", "high"]},
            },
            "required": ["url"],
            "additionalProperties": False,
        },
    },
    "required": ["type", "image_url"],
    "additionalProperties": False,
}
_TEXT: dict[str, Any] = {"anyOf": [{"type": "string"}, _TEXT_PARTS]}
#: Pictures come from the user alone.
_SHOWN: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {**_TEXT_PARTS, "items": {"anyOf": [_TEXT_PARTS["items"], _IMAGE]}}]
}
_NAME = "^[a-zA-Z0-9_-]{1,64}$"
_CALL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string", "pattern": _NAME}, "arguments": {"type": "string"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        },
    },
    "required": ["id", "type", "function"],
    "additionalProperties": False,
}


def _message(role: str, required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"role": {"const": role}, "name": {"type": "string"}, **properties},
        "required": ["role", *required],
        "additionalProperties": False,
    }


_MESSAGES: dict[str, dict[str, Any]] = {
    "system": _message("system", ["content"], content=_TEXT),
    "developer": _message("developer", ["content"], content=_TEXT),
    "user": _message("user", ["content"], content=_SHOWN),
    "assistant": _message(
        "assistant",
        [],
        content={"anyOf": [_TEXT, {"type": "null"}]},
        refusal={"type": ["string", "null"]},
        tool_calls={"type": "array", "minItems": 1, "items": _CALL},
    ),
    "tool": _message("tool", ["content", "tool_call_id"], content=_TEXT, tool_call_id={"type": "string"}),
}
_TOOL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": _NAME},
                "description": {"type": "string"},
                "parameters": {"type": "object"},
                "strict": {"type": ["boolean", "null"]},
            },
            "required": ["name"],
            "additionalProperties": False,
        },
    },
    "required": ["type", "function"],
    "additionalProperties": False,
}
_REQUEST: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "minLength": 1},
        "messages": {"type": "array", "minItems": 1},
        "tools": {"type": "array", "minItems": 1, "maxItems": 128, "items": _TOOL},
        "tool_choice": {},
        "parallel_tool_calls": {"type": "boolean"},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": "object",
            "properties": {"include_usage": {"type": "boolean"}, "include_obfuscation": {"type": "boolean"}},
            "additionalProperties": False,
        },
        "max_tokens": {"type": "integer", "minimum": 1},
        "max_completion_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "n": {"type": ["integer", "null"], "minimum": 1},
        "stop": {},
        "seed": {"type": ["integer", "null"]},
        "user": {"type": "string"},
        "response_format": {"type": "object"},
        "reasoning_effort": {"type": ["string", "null"]},
        "frequency_penalty": {"type": ["number", "null"]},
        "presence_penalty": {"type": ["number", "null"]},
        "metadata": {"type": ["object", "null"]},
        "store": {"type": ["boolean", "null"]},
        "prompt_cache_key": {"type": "string"},
        "service_tier": {"type": ["string", "null"]},
    },
    "required": ["model", "messages"],
    "additionalProperties": False,
}
_VALIDATOR = jsonschema.Draft202012Validator(_REQUEST)
_MESSAGE_VALIDATORS = {role: jsonschema.Draft202012Validator(schema) for role, schema in _MESSAGES.items()}


def request_problem(body: Any) -> str | None:
    """What the real API would refuse in the request, or None."""
    error = jsonschema.exceptions.best_match(_VALIDATOR.iter_errors(body))
    if error is not None:
        return f"{'.'.join(map(str, error.absolute_path)) or 'request'}: {error.message}"
    if body.get("stream_options") and not body.get("stream"):
        return "stream_options: only allowed when stream is true"
    if "max_tokens" in body and "max_completion_tokens" in body:
        return "max_tokens: not together with max_completion_tokens"
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    if len(set(names)) != len(names):
        return "tools: names have to be unique"
    for index, message in enumerate(body["messages"]):
        role = message.get("role") if isinstance(message, dict) else None
        validator = _MESSAGE_VALIDATORS.get(role or "")
        if validator is None:
            return f"messages[{index}]: unknown role {role!r}"
        error = jsonschema.exceptions.best_match(validator.iter_errors(message))
        if error is not None:
            return f"messages[{index}]: {error.message}"
        if role == "assistant" and message.get("content") is None and not message.get("tool_calls"):
            return f"messages[{index}]: an assistant message needs content or tool_calls"
        for call in message.get("tool_calls", ()):
            if not _is_object(call["function"]["arguments"]):
                # OpenAI takes it; many servers of the protocol read it, and refuse what they can't read.
                return f"messages[{index}]: the arguments of {call['function']['name']} are no JSON object"
    return _pairing_problem(body["messages"])


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, parse_constant=_constant_refuse), dict)
    except ValueError:
        return False


def _constant_refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _pairing_problem(messages: list[dict[str, Any]]) -> str | None:
    """Each call is answered exactly once, by a tool message that follows before anybody else speaks."""
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return (
                    f"messages[{index}]: messages with role 'tool' must be a response to a preceding message with "
                    f"'tool_calls'; {message['tool_call_id']!r} is none that is open"
                )
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            return (
                f"messages[{index}]: an assistant message with 'tool_calls' must be followed by tool messages "
                f"responding to each 'tool_call_id'; missing: {', '.join(sorted(open_calls))}"
            )
        ids = [call["id"] for call in message.get("tool_calls", ())]
        if len(set(ids)) != len(ids):
            return f"messages[{index}]: tool_calls: ids have to be unique"
        open_calls = set(ids)
    if open_calls:
        return f"messages: tool calls without a response: {', '.join(sorted(open_calls))}"
    return None
