"""Anthropic's Messages protocol, at Anthropic or at any address that speaks it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import anthropic
import httpx2
from langchain_anthropic import ChatAnthropic
from langchain_anthropic.chat_models import _create_usage_metadata
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import Runnable
from pydantic import PrivateAttr

from .capabilities import takes_effort, takes_temperature, thinks_by_effort
from .credentials import endpoint_parse
from .endpoint_http import EndpointClient
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
from .plain_answers import message_events
from .types import SHORT_OUTPUT_TOKENS, CallFailure, Effort, ModelSpec

WORDING = Wording("Anthropic's Messages protocol", "leave /v1/messages out of it")
ANTHROPIC_URL = "https://api.anthropic.com"
_HEADERS = {"authorization", "x-api-key", "anthropic-version", "anthropic-beta"}
#: What a model that thinks by a budget may think, in tokens; the reply comes out of the same limit.
_BUDGETS: dict[Effort, int] = {"low": 2_048, "medium": 6_144, "high": 12_288}
#: The least that the protocol takes for a budget, and what is left for the reply itself.
MIN_BUDGET = 1_024
_REPLY_ROOM = 1_024
_CACHE = {"type": "ephemeral"}


class _ArchonChatAnthropic(ChatAnthropic):
    """Speaks through a client of ours, and marks what the vendor should keep in its cache."""

    _http: EndpointClient = PrivateAttr()
    _marks: bool = PrivateAttr(default=True)

    @cached_property
    def _async_client(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(**self._client_params, http_client=self._http)

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(input_, stop=stop, **kwargs)
        thinking = payload.get("thinking") or {}
        if thinking.get("type") == "enabled" and not _may_think(payload["messages"]):
            del payload["thinking"]
        if self._marks:
            _cache_marks_set(payload)
        return payload

    def _make_message_chunk_from_anthropic_event(
        self, event: Any, **kwargs: Any
    ) -> tuple[AIMessageChunk | None, Any | None]:
        chunk, block = super()._make_message_chunk_from_anthropic_event(event, **kwargs)
        # What was read stands at the beginning of a stream, and not everywhere at its end again; LangChain looks there.
        usage = getattr(event.message, "usage", None) if event.type == "message_start" else None
        if chunk is not None and usage is not None:
            chunk.usage_metadata = _create_usage_metadata(usage)
        return chunk, block


def build(spec: ModelSpec) -> BaseChatModel:
    """A client of the endpoint; nothing is sent yet."""
    endpoint = endpoint_parse(spec.base_url)
    if endpoint is None:
        raise ValueError(f"not a canonical address: {spec.base_url!r}")
    timeout = httpx2.Timeout(connect=spec.connect_timeout_s, read=spec.idle_timeout_s, write=60.0, pool=60.0)
    arguments: dict[str, Any] = {
        "model": spec.model,
        "base_url": spec.base_url,
        "api_key": spec.api_key.reveal(),
        "max_tokens": spec.max_output_tokens,
        "temperature": spec.temperature if takes_temperature(spec) else None,
        "max_retries": 0,
        "timeout": spec.timeout_s,
        # The vendor's library shows the key as a bearer's; other servers of the protocol look for it here.
        "default_headers": None if spec.base_url == ANTHROPIC_URL else {"x-api-key": spec.api_key.reveal()},
        "disable_streaming": not spec.stream or "no_stream" in spec.quirks,
    }
    model = _ArchonChatAnthropic(**arguments)
    model._http = EndpointClient(
        endpoint=endpoint, timeout=timeout, headers=_HEADERS, home=ANTHROPIC_URL, as_events=message_events
    )
    model._marks = "no_cache_key" not in spec.quirks
    return model


async def close(model: BaseChatModel) -> None:
    await model._http.aclose()  # type: ignore[attr-defined]


def bind(model: BaseChatModel, spec: ModelSpec, tools: Sequence[dict[str, Any]]) -> Runnable[Any, Any]:
    """The model with these tools at hand."""
    return model.bind_tools(list(tools)) if tools else model


def call_arguments(
    spec: ModelSpec, *, output_tokens: int, session: str, reply_schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Arguments of one call: its output limit, and how much of it may be thought."""
    if "short_output" in spec.quirks:
        output_tokens = min(output_tokens, SHORT_OUTPUT_TOKENS)
    arguments: dict[str, Any] = {"max_tokens": output_tokens}
    if spec.effort is None or not takes_effort(spec):
        return arguments
    if thinks_by_effort(spec):
        return arguments | {"thinking": {"type": "adaptive"}, "output_config": {"effort": spec.effort}}
    budget = min(_BUDGETS[spec.effort], output_tokens - _REPLY_ROOM)
    if budget >= MIN_BUDGET:
        arguments["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return arguments


def is_complete(chunks: Sequence[AIMessageChunk]) -> bool:
    """Whether the reply came to its end."""
    return any(chunk.response_metadata.get("stop_reason") for chunk in chunks)


def failure(spec: ModelSpec, error: Exception) -> CallFailure | None:
    """What an exception out of a call means. None: it comes from elsewhere."""
    if (found := transport_failure(spec, error)) is not None:
        return found
    found_by = list(causes(error))
    status = next((each for each in found_by if isinstance(each, anthropic.APIStatusError)), None)
    unreadable = next(
        (each for each in found_by if isinstance(each, (*UNREADABLE, anthropic.APIResponseValidationError))), None
    )
    if status is not None:
        refusal = _refusal(status)
        if status.status_code == 200:  # an error inside a stream
            return broken_off_failure(spec, refusal)
        return refusal_failure(spec, refusal, WORDING)
    if isinstance(error, ContextOverflowError):
        return refusal_failure(spec, Refusal(413, str(error)), WORDING)
    if unreadable is not None:
        return unreadable_failure(spec, unreadable, WORDING)
    if any(isinstance(each, anthropic.APIConnectionError) for each in found_by):
        slow = any(isinstance(each, anthropic.APITimeoutError) for each in found_by)
        return transport_failure(spec, httpx2.ReadTimeout("") if slow else httpx2.NetworkError(str(error)))
    if any(isinstance(each, anthropic.APIError) for each in found_by):
        return broken_off_failure(spec, Refusal(200, str(error)))
    return None


def _refusal(error: anthropic.APIStatusError) -> Refusal:
    body = error.body if isinstance(error.body, dict) else {}
    given = body.get("error")
    detail: dict[str, Any] = given if isinstance(given, dict) else {}
    return Refusal(
        status=error.status_code,
        text=str(detail.get("message") or str(error)),
        code=str(detail.get("type") or ""),
        headers=error.response.headers,
    )


def _may_think(messages: Sequence[dict[str, Any]]) -> bool:
    """The protocol refuses to think on from a reply whose thoughts it isn't given, such as another model's."""
    last = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    if last is None:
        return True
    content = last["content"]
    first = content[0] if isinstance(content, list) and content else {}
    return first.get("type") in ("thinking", "redacted_thinking")


def _cache_marks_set(payload: dict[str, Any]) -> None:
    """Mark the ends of what stays the same: tools and system prompt, what conversations begin with, the last two turns.

    The protocol takes four marks, and reads the tools before the system prompt: one mark serves both. The first block
    of several that a conversation begins with is what others begin with as well. The turn before the last is where the
    request before this one ended, so that what that one wrote is found again.
    """
    if system := payload.get("system"):
        payload["system"] = _marked(system)
    elif payload.get("tools"):
        *others, last = payload["tools"]
        payload["tools"] = [*others, {**last, "cache_control": _CACHE}]
    messages = list(payload["messages"])
    if messages and isinstance(content := messages[0]["content"], list) and len(content) > 1:
        messages[0] = {**messages[0], "content": [*_marked(content[:1]), *content[1:]]}
    turns = [index for index, message in enumerate(messages) if message["role"] == "user"][-2:]
    for index in turns:
        messages[index] = {**messages[index], "content": _marked(messages[index]["content"])}
    payload["messages"] = messages


def _marked(content: str | list[Any]) -> str | list[Any]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    if not blocks or not isinstance(blocks[-1], dict) or (blocks[-1]["type"] == "text" and not blocks[-1]["text"]):
        return content
    return [*blocks[:-1], {**blocks[-1], "cache_control": _CACHE}]
