"""The OpenAI Responses protocol without state, as strictly as the real API takes it.

Written from the published reference of ``POST /v1/responses``. What the model thought before it called a tool has to
come back, encrypted, right before the calls that came of it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import jsonschema

from .wire import Reply, Request, Tokens, Wire, arguments_text, number, pieces, with_ids

_NAME = "^[a-zA-Z0-9_-]{1,64}$"


def _item(kind: str, required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **properties},
        "required": ["type", *required],
        "additionalProperties": False,
    }


_STRING = {"type": "string"}
_INPUT_TEXT = _item("input_text", ["text"], text=_STRING)
_INPUT_IMAGE = _item(
    "input_image",
    ["image_url"],
    image_url={"type": "string", "pattern": "^(data:image/[a-z+]+;base64,|https:)"},
    detail={"enum": ["auto", "low", "high"]},
)
_INPUT_PARTS = {"type": "array", "minItems": 1, "items": {"anyOf": [_INPUT_TEXT, _INPUT_IMAGE]}}
_OUTPUT_TEXT = _item("output_text", ["text"], text=_STRING, annotations={"type": "array"})
_ITEMS: dict[str, dict[str, Any]] = {
    "reasoning": _item(
        "reasoning",
        ["id", "summary", "encrypted_content"],
        id={"type": "string", "pattern": "^rs_"},
        summary={"type": "array", "items": _item("summary_text", ["text"], text=_STRING)},
        encrypted_content={"type": "string", "minLength": 1},
    ),
    "function_call": _item(
        "function_call",
        ["call_id", "name", "arguments"],
        call_id={"type": "string", "minLength": 1, "maxLength": 64},
        name={"type": "string", "pattern": _NAME},
        arguments=_STRING,
        id={"type": "string", "pattern": "^fc_"},
        status=_STRING,
    ),
    "function_call_output": _item(
        "function_call_output",
        ["call_id", "output"],
        call_id=_STRING,
        output={"anyOf": [_STRING, _INPUT_PARTS]},
        status=_STRING,
    ),
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "type": {"const": "message"},
        "role": {"enum": ["user", "system", "developer", "assistant"]},
        "content": {},
        "phase": _STRING,
    },
    "required": ["role", "content"],
    "additionalProperties": False,
}
_CONTENT = {"anyOf": [_STRING, _INPUT_PARTS]}
_SAID = {"anyOf": [_STRING, {"type": "array", "minItems": 1, "items": _OUTPUT_TEXT}]}
_REQUEST = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "minLength": 1},
        "input": {"type": "array", "minItems": 1},
        "instructions": _STRING,
        "tools": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "type": {"const": "function"},
                    "name": {"type": "string", "pattern": _NAME},
                    "description": _STRING,
                    "parameters": {"type": "object"},
                    "strict": {"type": "boolean"},
                },
                "required": ["type", "name", "parameters", "strict"],
                "additionalProperties": False,
            },
        },
        "tool_choice": {},
        "parallel_tool_calls": {"type": "boolean"},
        "stream": {"type": "boolean"},
        "store": {"type": "boolean"},
        "include": {"type": "array", "items": {"enum": ["reasoning.encrypted_content"]}},
        "reasoning": {
            "type": "object",
            "properties": {"effort": {"enum": ["minimal", "low", "medium", "high"]}, "summary": {}},
            "additionalProperties": False,
        },
        "max_output_tokens": {"type": "integer", "minimum": 16},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "prompt_cache_key": {"type": "string", "maxLength": 64},
        "text": {
            "type": "object",
            "properties": {"format": {"type": "object"}, "verbosity": {}},
            "additionalProperties": False,
        },
        "metadata": {"type": "object"},
    },
    "required": ["model", "input"],
    "additionalProperties": False,
}
_VALIDATOR = jsonschema.Draft202012Validator(_REQUEST)


def _best(schema: dict[str, Any], value: Any) -> str | None:
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    return None if error is None else f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


class ResponsesWire(Wire):
    """The OpenAI Responses protocol."""

    prefix = "/v1"

    def __init__(self) -> None:
        #: What was thought before each call, by the call's id.
        self.thoughts: dict[str, str] = {}
        #: Everything that was thought.
        self.encrypted: set[str] = set()

    def target(self, path: str, body: Any) -> tuple[str, bool] | None:
        if path != "/v1/responses":
            return None
        asked = body if isinstance(body, dict) else {}
        return str(asked.get("model")), bool(asked.get("stream"))

    def key(self, headers: dict[str, str]) -> str:
        return headers.get("authorization", "").removeprefix("Bearer ")

    def problem(self, body: Any, headers: dict[str, str], model: str) -> str | None:
        if (problem := _best(_REQUEST, body)) is not None:
            return problem
        if body.get("store") is not False:
            return "store: this account keeps nothing; send store: false"
        thinks = _thinks(body)
        if "reasoning" in body and not thinks:
            return f"Unsupported parameter: 'reasoning.effort' is not supported with {model}"
        if body.get("include") and not thinks:
            return "Encrypted content is not supported with this model."
        if thinks and "temperature" in body:
            return "Unsupported parameter: 'temperature' is not supported with this model."
        open_calls: set[str] = set()
        said: set[str] = set()
        thought = ""
        for index, item in enumerate(body["input"]):
            kind = item.get("type", "message")
            schema = _MESSAGE if kind == "message" else _ITEMS.get(kind)
            if schema is None:
                return f"input[{index}]: unknown type {kind!r}"
            if (problem := _best(schema, item)) is not None:
                return f"input[{index}].{problem}"
            if kind == "message":
                shape = _SAID if item["role"] == "assistant" else _CONTENT
                if (problem := _best(shape, item["content"])) is not None:
                    return f"input[{index}].content.{problem}"
            if kind == "reasoning":
                if item["encrypted_content"] not in self.encrypted:
                    return f"input[{index}]: The encrypted content could not be verified."
                thought = item["encrypted_content"]
            if kind == "function_call":
                call_id = item["call_id"]
                if call_id in said:
                    return f"input[{index}]: call_id {call_id} twice"
                if (needed := self.thoughts.get(call_id)) is not None and needed != thought:
                    return f"input[{index}]: 'function_call' was provided without its required 'reasoning' item"
                said.add(call_id)
                open_calls.add(call_id)
            elif kind == "function_call_output":
                if item["call_id"] not in open_calls:
                    return f"No tool call found for function call output with call_id {item['call_id']}."
                open_calls.remove(item["call_id"])
                thought = ""
            elif open_calls and (kind != "message" or item["role"] != "assistant"):
                return f"No tool output found for function call {min(open_calls)}."
        return f"No tool output found for function call {min(open_calls)}." if open_calls else None

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        for item in body["input"]:
            kind = item.get("type", "message")
            if kind == "message" and item["role"] != "assistant":
                messages.append({"role": item["role"], "content": item["content"]})
            elif kind == "message":
                _assistant(messages, fresh=True)["content"] = item["content"]
            elif kind == "function_call":
                call = {"name": item["name"], "arguments": item["arguments"]}
                _assistant(messages).setdefault("tool_calls", []).append({"id": item["call_id"], "function": call})
            elif kind == "function_call_output":
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        return messages

    def tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["name"] for tool in body.get("tools", ())]

    def segments(self, body: dict[str, Any]) -> tuple[list[str], list[int] | None]:
        return [json.dumps(body.get("tools", [])), *(json.dumps(item) for item in body["input"])], None

    def thought_tokens(self, request: Request) -> int:
        return 40 if _thinks(request.body) else 0

    def error(self, status: int, message: str, code: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": code, "param": None, "code": code}}

    def document(self, request: Request, reply: Reply, tokens: Tokens) -> dict[str, Any]:
        items: list[dict[str, Any]] = []
        thought = ""
        reply = with_ids(reply, "call_resp")
        if _thinks(request.body):
            label = f"rs_{number()}"
            thought = "enc_" + hashlib.sha256(label.encode()).hexdigest()
            self.encrypted.add(thought)
            encrypted = thought if "reasoning.encrypted_content" in request.body.get("include", ()) else None
            items.append({"type": "reasoning", "id": label, "summary": [], "encrypted_content": encrypted})
        if reply.text:
            part = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
            items.append(
                {
                    "type": "message",
                    "id": f"msg_{number()}",
                    "role": "assistant",
                    "status": "completed",
                    "content": [part],
                }
            )
        for call in reply.tool_calls:
            if thought:
                self.thoughts[str(call.id)] = thought
            items.append(
                {
                    "type": "function_call",
                    "id": f"fc_{number()}",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": arguments_text(call),
                    "status": "completed",
                }
            )
        usage = {
            "input_tokens": tokens.read,
            "input_tokens_details": {"cached_tokens": tokens.cached},
            "output_tokens": tokens.written,
            "output_tokens_details": {"reasoning_tokens": tokens.thought},
            "total_tokens": tokens.read + tokens.written,
        }
        return {
            "id": f"resp_{number()}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": request.model,
            "output": items,
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None if reply.without_usage else usage,
        }

    def events(self, request: Request, reply: Reply, tokens: Tokens) -> Iterator[tuple[str, Any]]:
        whole = self.document(request, reply, tokens)
        count = 0

        def event(kind: str, **fields: Any) -> tuple[str, Any]:
            nonlocal count
            count += 1
            return kind, {"type": kind, "sequence_number": count - 1, **fields}

        begun = whole | {"status": "in_progress", "output": [], "usage": None}
        yield event("response.created", response=begun)
        yield event("response.in_progress", response=begun)
        for index, item in enumerate(whole["output"]):
            at = {"output_index": index, "item_id": item["id"]}
            if item["type"] == "reasoning":
                opening = item | {"encrypted_content": "enc_partial"}
                yield event("response.output_item.added", output_index=index, item=opening)
            elif item["type"] == "message":
                opening = item | {"status": "in_progress", "content": []}
                yield event("response.output_item.added", output_index=index, item=opening)
                (part,) = item["content"]
                yield event("response.content_part.added", **at, content_index=0, part=part | {"text": ""})
                for piece in pieces(part["text"], 12):
                    yield event("response.output_text.delta", **at, content_index=0, delta=piece, logprobs=[])
                yield event("response.output_text.done", **at, content_index=0, text=part["text"], logprobs=[])
                yield event("response.content_part.done", **at, content_index=0, part=part)
            else:
                opening = item | {"status": "in_progress", "arguments": ""}
                yield event("response.output_item.added", output_index=index, item=opening)
                for piece in pieces(item["arguments"], 16):
                    yield event("response.function_call_arguments.delta", **at, delta=piece)
                yield event(
                    "response.function_call_arguments.done", **at, arguments=item["arguments"], name=item["name"]
                )
            yield event("response.output_item.done", output_index=index, item=item)
        yield event("response.completed", response=whole)


def _thinks(body: dict[str, Any]) -> bool:
    return str(body["model"]).startswith(("gpt-5", "o"))


def _assistant(messages: list[dict[str, Any]], *, fresh: bool = False) -> dict[str, Any]:
    """The assistant's message at the end; a text begins one."""
    if not messages or messages[-1]["role"] != "assistant" or fresh:
        messages.append({"role": "assistant", "content": None})
    return messages[-1]
