"""Google's ``generateContent`` protocol, as strictly as the real API takes it.

Written from the published reference of ``POST /v1beta/models/M:generateContent``: its own dialect of JSON schema, each
turn of function calls followed by as many responses of the same names and ids, and for models from 3 on the signature
that came with the first call of each reply.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema

from .wire import Reply, Request, Tokens, Wire, arguments_text, number, pieces, with_ids

_PATH = re.compile(r"/v1beta/models/(?P<model>[A-Za-z0-9._-]+):(?P<method>generateContent|streamGenerateContent)")
_STRING = {"type": "string"}
#: Stands for the thoughts of another model.
SKIP = "skip_thought_signature_validator"


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_SCHEMA: dict[str, Any] = {"$ref": "#/$defs/schema"}
_DEFINITIONS = {
    "schema": {
        "type": "object",
        "properties": {
            "type": {"enum": ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"]},
            "format": {"enum": ["enum", "date-time", "int32", "int64", "float", "double"]},
            "description": _STRING,
            "nullable": {"type": "boolean"},
            "enum": {"type": "array", "items": _STRING},
            "items": _SCHEMA,
            "properties": {"type": "object", "minProperties": 1, "additionalProperties": _SCHEMA},
            "required": {"type": "array", "items": _STRING},
            "anyOf": {"type": "array", "items": _SCHEMA},
            "pattern": _STRING,
            **{name: {"type": ["integer", "string"]} for name in _COUNTS},
            **{name: {"type": "number"} for name in ("minimum", "maximum")},
            "propertyOrdering": {"type": "array"},
            "title": _STRING,
        },
        "anyOf": [{"required": ["type"]}, {"required": ["anyOf"]}],
        "additionalProperties": False,
    }
}
# The API understands names in both spellings; below the first levels, Google's own library sends this one.
_PART = {
    "type": "object",
    "properties": {
        "text": _STRING,
        "thought": {"type": "boolean"},
        "thoughtSignature": _STRING,
        "inlineData": _object(["mime_type", "data"], mime_type={"type": "string", "pattern": "^image/"}, data=_STRING),
        "functionCall": _object(["name"], id=_STRING, name=_STRING, args={"type": "object"}),
        "functionResponse": _object(["name", "response"], id=_STRING, name=_STRING, response={"type": "object"}),
    },
    "minProperties": 1,
    "additionalProperties": False,
}
_CONTENT = _object(["parts"], role={"enum": ["user", "model"]}, parts={"type": "array", "minItems": 1, "items": _PART})
_REQUEST = _object(
    ["contents"],
    contents={"type": "array", "minItems": 1, "items": _CONTENT},
    systemInstruction=_CONTENT,
    tools={
        "type": "array",
        "minItems": 1,
        "items": _object(
            ["functionDeclarations"],
            functionDeclarations={
                "type": "array",
                "minItems": 1,
                "items": _object(
                    ["name", "description"],
                    name={"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_.-]{0,63}$"},
                    description={"type": "string", "minLength": 1},
                    parameters=_SCHEMA,
                ),
            },
        ),
    },
    toolConfig={"type": "object"},
    safetySettings={"type": "array"},
    generationConfig=_object(
        [],
        temperature={"type": "number", "minimum": 0, "maximum": 2},
        maxOutputTokens={"type": "integer", "minimum": 1},
        candidateCount={"const": 1},
        thinkingConfig=_object(
            [],
            thinking_budget={"type": "integer"},
            thinking_level={"enum": ["LOW", "MEDIUM", "HIGH", "low", "medium", "high"]},
            include_thoughts={"type": "boolean"},
        ),
        responseMimeType=_STRING,
        responseJsonSchema={"type": "object"},
    ),
) | {"$defs": _DEFINITIONS}
_VALIDATOR = jsonschema.Draft202012Validator(_REQUEST)
_STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
}


class GeminiWire(Wire):
    """Google's ``generateContent`` protocol."""

    models_path = "/v1beta/models"
    failures = {
        "unauthorized": (400, "API_KEY_INVALID", "API key not valid. Please pass a valid API key."),
        "not_found": (404, "", "models/x is not found for API version v1beta"),
        "rate_limited": (429, "", "You exceeded your current quota, please check your plan and billing details."),
        "quota": (429, "GenerateRequestsPerDayPerProjectPerModel", "You exceeded your current quota"),
        "server_error": (500, "", "An internal error has occurred."),
        "overloaded": (503, "", "The model is overloaded. Please try again later."),
        "context_too_long": (
            400,
            "",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        "bad_request": (400, "", "Invalid request"),
    }

    def __init__(self) -> None:
        #: The signature that came with each call, by the call's id.
        self.signatures: dict[str, str] = {}

    def target(self, path: str, body: Any) -> tuple[str, bool] | None:
        route, _, query = path.partition("?")
        match = _PATH.fullmatch(route)
        if match is None:
            return None
        stream = match["method"] == "streamGenerateContent"
        return (match["model"], stream) if not stream or query == "alt=sse" else None

    def key(self, headers: dict[str, str]) -> str:
        return headers.get("x-goog-api-key", "")

    def problem(self, body: Any, headers: dict[str, str], model: str) -> str | None:
        if not headers.get("x-goog-api-key"):
            return "Method doesn't allow unregistered callers. Please use API Key."
        error = jsonschema.exceptions.best_match(_VALIDATOR.iter_errors(body))
        if error is not None:
            return f"{'.'.join(map(str, error.absolute_path)) or 'request'}: {error.message}"
        level = "thinking_level" in body.get("generationConfig", {}).get("thinkingConfig", {})
        if level and not _is_new(model):
            return "Thinking level is not supported for this model."
        return self._contents_problem(body["contents"], model)

    def _contents_problem(self, contents: list[dict[str, Any]], model: str) -> str | None:
        open_calls: list[tuple[str, str | None]] = []
        if contents[0].get("role") != "user":
            return "contents: please ensure that the conversation starts with a user turn"
        for index, content in enumerate(contents):
            parts = content["parts"]
            answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
            calls = [part for part in parts if "functionCall" in part]
            if content.get("role") == "user":
                if calls:
                    return f"contents[{index}]: function calls come from the model"
                given = [(answer["name"], answer.get("id")) for answer in answers]
                if given != open_calls:
                    return (
                        f"contents[{index}]: the number of function response parts is equal to the number of function"
                        f" call parts of the function call turn, in order: {given} for {open_calls}"
                    )
                open_calls = []
                continue
            if open_calls or answers:
                return f"contents[{index}]: function call turn comes immediately before its responses"
            open_calls = [(part["functionCall"]["name"], part["functionCall"].get("id")) for part in calls]
            if calls and _is_new(model):
                first = calls[0]
                known = self.signatures.get(str(first["functionCall"].get("id")))
                shown = first.get("thoughtSignature")
                if shown is None or (shown != known and (known is not None or shown != SKIP)):
                    return f"contents[{index}]: Function call is missing a thought_signature in functionCall parts"
        return "contents: a function call without a response" if open_calls else None

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if system := body.get("systemInstruction"):
            messages.append({"role": "system", "content": _texts(system["parts"])})
        ids: list[str] = []
        for index, content in enumerate(body["contents"]):
            parts = content["parts"]
            if content["role"] == "model":
                called = [part["functionCall"] for part in parts if "functionCall" in part]
                ids = [str(call.get("id") or f"{index}_{place}") for place, call in enumerate(called)]
                calls = [
                    {"id": call_id, "function": {"name": call["name"], "arguments": json.dumps(call.get("args", {}))}}
                    for call_id, call in zip(ids, called, strict=True)
                ]
                said = {"role": "assistant", "content": _texts(parts)}
                messages.append(said | ({"tool_calls": calls} if calls else {}))
                continue
            answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
            for call_id, answer in zip(ids, answers, strict=False):
                response = answer["response"]
                said = response.get("output", response.get("error", ""))
                messages.append({"role": "tool", "tool_call_id": call_id, "content": said})
            if any("functionResponse" not in part for part in parts):
                rest = [
                    {"type": "text", "text": part.get("text", "")} for part in parts if "functionResponse" not in part
                ]
                messages.append({"role": "user", "content": rest})
        return messages

    def tools(self, body: dict[str, Any]) -> list[str]:
        return [one["name"] for tool in body.get("tools", ()) for one in tool["functionDeclarations"]]

    def segments(self, body: dict[str, Any]) -> tuple[list[str], list[int] | None]:
        head = [json.dumps(body.get("systemInstruction")), json.dumps(body.get("tools", []))]
        return [*head, *(json.dumps(content) for content in body["contents"])], None

    def thought_tokens(self, request: Request) -> int:
        return 20 if request.body.get("generationConfig", {}).get("thinkingConfig") or _is_new(request.model) else 0

    def error(self, status: int, message: str, code: str) -> dict[str, Any]:
        details: list[dict[str, Any]] = []
        if code:
            details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code})
        if status == 429 and not code:
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.01s"})
        document: dict[str, Any] = {"code": status, "message": message, "status": _STATUS.get(status, "UNAVAILABLE")}
        return {"error": document | ({"details": details} if details else {})}

    def document(self, request: Request, reply: Reply, tokens: Tokens) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
        parts += self._call_parts(request, reply)
        return self._answer(request, reply, parts, tokens, final=True)

    def events(self, request: Request, reply: Reply, tokens: Tokens) -> Iterator[tuple[str, Any]]:
        parts: list[dict[str, Any]] = [{"text": piece} for piece in pieces(reply.text, 12)]
        parts += self._call_parts(request, reply)
        parts = parts or [{"text": ""}]
        for place, part in enumerate(parts):
            final = place == len(parts) - 1
            # Counts grow while the reply does.
            so_far = tokens if final else Tokens(tokens.read, tokens.written * place // len(parts), tokens.cached)
            yield "", self._answer(request, reply, [part], so_far, final=final)

    def _call_parts(self, request: Request, reply: Reply) -> list[dict[str, Any]]:
        parts = []
        for place, call in enumerate(with_ids(reply, "fc_").tool_calls):
            given = call.arguments if isinstance(call.arguments, dict) else {"broken": arguments_text(call)}
            part: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": given}}
            if place == 0 and _is_new(request.model):
                signature = base64.b64encode(f"thought {number()}".encode()).decode()
                self.signatures[str(call.id)] = part["thoughtSignature"] = signature
            parts.append(part)
        return parts

    def _answer(
        self, request: Request, reply: Reply, parts: list[dict[str, Any]], tokens: Tokens, *, final: bool
    ) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if final:
            candidate["finishReason"] = reply.finish_reason or "STOP"
        answer: dict[str, Any] = {
            "candidates": [candidate],
            "modelVersion": request.model,
            "responseId": f"r{number()}",
        }
        if reply.without_usage:
            return answer
        usage = {
            "promptTokenCount": tokens.read,
            "candidatesTokenCount": max(0, tokens.written - tokens.thought),
            "totalTokenCount": tokens.read + tokens.written,
        }
        if tokens.cached:
            usage["cachedContentTokenCount"] = tokens.cached
        if tokens.thought:
            usage["thoughtsTokenCount"] = tokens.thought
        return answer | {"usageMetadata": usage}

    def models(self) -> dict[str, Any]:
        listed = {"name": "models/gemini-loopback", "supportedGenerationMethods": ["generateContent"]}
        return {"models": [listed]}


def _is_new(model: str) -> bool:
    return bool(re.match(r"gemini-[3-9]", model))


def _texts(parts: list[dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for part in parts)
