"""Google's ``generateContent`` protocol."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import httpx2
from google.genai import Client
from google.genai.errors import APIError, UnknownApiResponseError
from google.genai.types import Content, FunctionResponse, HttpOptions, Part
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_google_genai import ChatGoogleGenerativeAI
from pydantic import PrivateAttr

from .capabilities import takes_effort, takes_temperature, thinks_by_level
from .credentials import endpoint_parse
from .endpoint_http import EndpointClient
from .errors import ModelNameInvalid
from .failures import (
    UNREADABLE,
    Refusal,
    Wording,
    broken_off_failure,
    causes,
    refusal_failure,
    transport_failure,
    unreadable_failure,
)
from .gemini_schema import gemini_tool
from .plain_answers import generate_content_events
from .types import SHORT_OUTPUT_TOKENS, CallFailure, Effort, ModelSpec

WORDING = Wording("Google's generateContent protocol", "leave /v1beta out of it")
GEMINI_URL = "https://generativelanguage.googleapis.com"
_NAME = re.compile(r"(?:[a-z]+/)?[A-Za-z0-9._-]+")
#: What a model that thinks by a budget may think, in tokens; the reply comes out of the same limit.
_BUDGETS: dict[Effort, int] = {"low": 1_024, "medium": 6_144, "high": 12_288}
_DELAY = re.compile(r"retryDelay'?\"?: '?\"?([0-9.]+)s")


class _ArchonChatGemini(ChatGoogleGenerativeAI):
    """Speaks through a client of ours, and says which call a result is of."""

    _http: EndpointClient = PrivateAttr()

    def _prepare_request(self, messages: list[BaseMessage], **kwargs: Any) -> dict[str, Any]:
        request = super()._prepare_request(messages, **kwargs)
        request["contents"] = _calls_named(request["contents"], messages)
        return request


def build(spec: ModelSpec) -> BaseChatModel:
    """A client of the endpoint; nothing is sent yet."""
    endpoint = endpoint_parse(spec.base_url)
    if endpoint is None:
        raise ValueError(f"not a canonical address: {spec.base_url!r}")
    if not _NAME.fullmatch(spec.model):
        raise ModelNameInvalid(f"'{spec.model}' is not the name of a Gemini model", next_step="Check its spelling.")
    timeout = httpx2.Timeout(connect=spec.connect_timeout_s, read=spec.idle_timeout_s, write=60.0, pool=60.0)
    http = EndpointClient(
        endpoint=endpoint,
        timeout=timeout,
        headers={"x-goog-api-key"},
        home=GEMINI_URL,
        as_events=generate_content_events,
    )
    arguments: dict[str, Any] = {
        "model": spec.model,
        "base_url": spec.base_url,
        "api_key": spec.api_key.reveal(),
        "vertexai": False,
        "temperature": spec.temperature if takes_temperature(spec) else None,
        "max_output_tokens": spec.max_output_tokens,
        "max_retries": 1,  # that is: no second try
        "reasoning_effort": spec.effort if thinks_by_level(spec) and takes_effort(spec) else None,
        "disable_streaming": not spec.stream or "no_stream" in spec.quirks,
    }
    model = _ArchonChatGemini(**arguments)
    # It tells of each call that it would call functions itself; it has none that it could.
    logging.getLogger("google_genai.models").setLevel(logging.WARNING)
    model._http = http
    model.client = Client(
        api_key=spec.api_key.reveal(),
        vertexai=False,
        http_options=HttpOptions(base_url=spec.base_url, api_version="v1beta", httpx_async_client=http),
    )
    return model


async def close(model: BaseChatModel) -> None:
    await model._http.aclose()  # type: ignore[attr-defined]


def bind(model: BaseChatModel, spec: ModelSpec, tools: Sequence[dict[str, Any]]) -> Runnable[Any, Any]:
    """The model with these tools at hand."""
    return model.bind_tools([gemini_tool(tool) for tool in tools]) if tools else model


def call_arguments(
    spec: ModelSpec, *, output_tokens: int, session: str, reply_schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Arguments of one call: its output limit, how much of it may be thought, the shape of the reply."""
    if "short_output" in spec.quirks:
        output_tokens = min(output_tokens, SHORT_OUTPUT_TOKENS)
    arguments: dict[str, Any] = {"max_output_tokens": output_tokens}
    if spec.effort is not None and takes_effort(spec) and not thinks_by_level(spec):
        arguments["thinking_budget"] = min(_BUDGETS[spec.effort], output_tokens // 2)
    if reply_schema is not None and "no_json_object" not in spec.quirks:
        arguments["response_mime_type"] = "application/json"
        if "no_json_schema" not in spec.quirks:
            arguments["response_json_schema"] = reply_schema
    return arguments


def is_complete(chunks: Sequence[AIMessageChunk]) -> bool:
    """Whether the reply came to its end."""
    return any(chunk.response_metadata.get("finish_reason") for chunk in chunks)


def failure(spec: ModelSpec, error: Exception) -> CallFailure | None:
    """What an exception out of a call means. None: it comes from elsewhere."""
    if (found := transport_failure(spec, error)) is not None:
        return found
    found_by = list(causes(error))
    refused = next((each for each in found_by if isinstance(each, APIError)), None)
    unreadable = next((each for each in found_by if isinstance(each, (*UNREADABLE, UnknownApiResponseError))), None)
    if refused is not None:
        refusal = _refusal(refused)
        return broken_off_failure(spec, refusal) if refusal.status == 200 else refusal_failure(spec, refusal, WORDING)
    if isinstance(error, ContextOverflowError):
        return refusal_failure(spec, Refusal(413, str(error)), WORDING)
    return unreadable_failure(spec, unreadable, WORDING) if unreadable is not None else None


def _refusal(error: APIError) -> Refusal:
    delay = _DELAY.search(str(error.details))
    return Refusal(
        status=int(error.code or 200),
        text=str(error.message or error),
        # Reasons stand among the details: a bad key is a bad request here, and a spent quota a rate.
        code=str(error.details),
        headers=getattr(error.response, "headers", None) or {},
        retry_after=float(delay.group(1)) if delay else None,
    )


def _calls_named(contents: list[Content], messages: Sequence[BaseMessage]) -> list[Content]:
    """The conversation with the ids of calls, and each result as it was said.

    LangChain leaves the ids out, and reads a result that happens to be JSON as something else than the text it is.
    """
    replies = [message for message in messages if isinstance(message, AIMessage) and message.tool_calls]
    results = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    names = {call["id"]: call["name"] for message in replies for call in message.tool_calls}
    named: list[Content] = []
    ids: list[str] = []
    for content in contents:
        parts = content.parts or []
        if content.role == "model" and any(part.function_call for part in parts):
            ids = [str(call["id"]) for call in replies.pop(0).tool_calls]
            for call_id, part in zip(ids, (part for part in parts if part.function_call), strict=True):
                assert part.function_call is not None
                part.function_call.id = call_id
        elif any(part.function_response for part in parts):
            answered = [results[call_id] for call_id in ids if call_id in results]
            content = Content(role="user", parts=[_response(result, names[result.tool_call_id]) for result in answered])
        named.append(content)
    return named


def _response(message: ToolMessage, name: str) -> Part:
    said = {"error" if message.status == "error" else "output": str(message.text)}
    return Part(function_response=FunctionResponse(id=message.tool_call_id, name=name, response=said))
