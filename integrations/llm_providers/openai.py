"""The OpenAI chat protocol: OpenAI itself, and everything that speaks it at another address."""

from __future__ import annotations

import email.utils
import json
import re
import time
from typing import Any

import httpx2
import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_openai import ChatOpenAI

from .call_arguments import call_arguments_read
from .credentials import OPENAI_URL, endpoint_parse
from .openai_http import EndpointClient, RedirectRefused
from .types import SHORT_OUTPUT_TOKENS, CallFailure, ModelSpec, Quirk

_SHOWN = 500
# What a library raises when a body is not what it says it is.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, openai.APIResponseValidationError)
_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_CONTEXT = re.compile(
    r"context_length_exceeded|maximum context length|context window|prompt is too long|too many tokens"
    r"|exceeds? the (?:available )?context|exceed_context_size",
    re.IGNORECASE,
)
_CALL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LONG_OUTPUT = re.compile(r"max_(?:completion_)?tokens.*(?:too (?:large|high|big)|at most|exceed|less than|maximum)")


class _LeanChatOpenAI(ChatOpenAI):
    """Hands the conversation past the client library's type-driven copy of it.

    That copy only renames keys, none of which occur here, and takes 35 ms of CPU for two hundred messages, each time.
    """

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        for message in payload.get("messages", ()):
            if message.get("tool_calls"):
                message["tool_calls"] = [_call_presentable(call) for call in message["tool_calls"]]
        moved = {name: payload[name] for name in ("messages", "tools") if name in payload}
        return payload | dict.fromkeys(moved, ()) | {"extra_body": (payload.get("extra_body") or {}) | moved}


def _call_presentable(call: dict[str, Any]) -> dict[str, Any]:
    """A call as endpoints take it back: they refuse names and arguments that aren't what they should be, even though
    it was their model that said so. Such a name is spelled otherwise, such arguments are quoted."""
    function = call["function"]
    name, arguments = function["name"] or "", function["arguments"] or "{}"
    if not _CALL_NAME.fullmatch(name):
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unnamed"
    if call_arguments_read(arguments)[0] is None:
        arguments = json.dumps({"unreadable": arguments})
    return call | {"function": {"name": name, "arguments": arguments}}


def build(spec: ModelSpec) -> BaseChatModel:
    """A client of the endpoint; nothing is sent yet."""
    endpoint = endpoint_parse(spec.base_url)
    if endpoint is None:
        raise ValueError(f"not a canonical address: {spec.base_url!r}")
    timeout = httpx2.Timeout(connect=spec.connect_timeout_s, read=spec.idle_timeout_s, write=60.0, pool=60.0)
    key = spec.api_key.reveal()

    async def api_key() -> str:
        return key

    return _LeanChatOpenAI(
        model=spec.model,
        base_url=spec.base_url,
        # A coroutine rather than a string: with a string, a second, synchronous client is built, and never used.
        api_key=api_key,
        use_responses_api=False,
        stream_usage="no_stream_options" not in spec.quirks,
        disable_streaming="no_stream" in spec.quirks,
        temperature=None if "no_temperature" in spec.quirks else spec.temperature,
        max_retries=0,  # the gateway retries: it knows what a try may cost
        timeout=timeout,
        stream_chunk_timeout=None,  # the gateway watches for silence, at a tenth of the CPU
        http_async_client=EndpointClient(endpoint=endpoint, timeout=timeout),
        **output_limit_arguments(spec, spec.max_output_tokens),
    )


def output_limit_arguments(spec: ModelSpec, tokens: int) -> dict[str, Any]:
    """Arguments of one call that set its output limit, by the name that the endpoint understands."""
    if "short_output" in spec.quirks:
        tokens = min(tokens, SHORT_OUTPUT_TOKENS)
    # OpenAI's newer models know only `max_completion_tokens` (LangChain makes that of `max_tokens`). Other servers of
    # the protocol know `max_tokens`, and some would ignore the former, and with it the limit that was reserved.
    modern = (spec.base_url == OPENAI_URL) != ("other_max_tokens" in spec.quirks)
    return {"max_tokens": tokens} if modern else {"extra_body": {"max_tokens": tokens}}


def failure(spec: ModelSpec, error: Exception) -> CallFailure | None:
    """What an exception out of a call means. None: it comes from elsewhere."""
    if isinstance(error, RedirectRefused):
        return CallFailure(
            kind="bad_response",
            message=f"{spec.base_url} answers with a redirect to {error.location}, which is not followed",
            next_step="Name the final address as the base URL.",
        )
    if isinstance(error, ContextOverflowError):
        return _context(spec, error)
    if isinstance(error, TimeoutError | openai.APITimeoutError | httpx2.TimeoutException):
        if isinstance(error.__cause__, httpx2.ConnectTimeout) or isinstance(error, httpx2.ConnectTimeout):
            return _connection(spec, "it cannot be reached in time")
        return CallFailure(
            kind="timeout",
            message=f"{spec.name} at {spec.base_url} did not answer in time",
            next_step="Try again later, or choose a faster model.",
            retryable=True,
            charged=True,
        )
    if isinstance(error, openai.APIStatusError):
        return _status(spec, error)
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError):
        return _connection(spec, _said(spec, error.__cause__ or error))
    if isinstance(error, openai.APIError):  # an error inside a stream
        text = _said(spec, error)
        if _CONTEXT.search(text):
            return _context(spec, error)
        return CallFailure(
            kind="overloaded",
            message=f"{spec.name} at {spec.base_url} broke off: {text}",
            next_step="Try again later.",
            retryable=True,
            charged=True,
        )
    if isinstance(error, _UNREADABLE):
        empty = "No generation chunks" in str(error) and "no_stream" not in spec.quirks
        return CallFailure(
            kind="bad_response",
            message=f"{spec.base_url} answers something that is not the OpenAI chat protocol: {_said(spec, error)}",
            next_step="Check that the base URL is the one of an OpenAI-compatible API; most end in /v1.",
            retryable=True,
            quirk="no_stream" if empty else None,
        )
    return None


def _status(spec: ModelSpec, error: openai.APIStatusError) -> CallFailure:
    status, text = error.status_code, _said(spec, error)
    if status in (401, 403):
        where = spec.key_source or "ARCHON_MODEL_KEYS"
        had = f"the key in {where}" if spec.key_source else "a request without a key"
        return CallFailure(
            kind="auth",
            message=f"{spec.base_url} refuses {had}: {text}",
            next_step=f"Set {where} to a key that is valid there and may use {spec.model}.",
        )
    if status == 404:
        return CallFailure(
            kind="not_found",
            message=f"{spec.base_url} knows no model '{spec.model}', or is not the base URL of its API: {text}",
            next_step="Check the model's name and the base URL; most end in /v1.",
        )
    if status == 429:
        if str(error.code) in _QUOTA:
            return CallFailure(
                kind="quota",
                message=f"the account at {spec.base_url} has no credit left: {text}",
                next_step="Add credit with the provider, or choose another model.",
            )
        return CallFailure(
            kind="rate_limited",
            message=f"{spec.base_url} limits the rate: {text}",
            next_step="Wait, and try again.",
            retryable=True,
            retry_after=_retry_after(error.response.headers),
        )
    if status >= 500 or status in (408, 409, 425):
        return CallFailure(
            kind="overloaded",
            message=f"{spec.base_url} fails with HTTP {status}: {text}",
            next_step="Try again later.",
            retryable=True,
            retry_after=_retry_after(error.response.headers),
        )
    if status == 413 or (status == 400 and _CONTEXT.search(text)):
        return _context(spec, error)
    return CallFailure(
        kind="bad_request",
        message=f"{spec.base_url} refuses the request with HTTP {status}: {text}",
        next_step="Choose a model that supports tools through the OpenAI chat protocol.",
        quirk=_quirk(spec, text) if status in (400, 422, 501) else None,
    )


def _quirk(spec: ModelSpec, text: str) -> Quirk | None:
    """The part of the request that the endpoint's refusal names and that can be left out or said otherwise."""
    lowered = text.lower()
    found: Quirk | None = None
    if _LONG_OUTPUT.search(lowered):
        found = "short_output"
    elif "max_tokens" in lowered or "max_completion_tokens" in lowered:
        found = "other_max_tokens"
    elif "stream_options" in lowered or "include_usage" in lowered:
        found = "no_stream_options"
    elif "temperature" in lowered:
        found = "no_temperature"
    elif re.search(r"\bstream(?:ing)?\b", lowered):
        found = "no_stream"
    return None if found in spec.quirks else found


def _context(spec: ModelSpec, error: Exception) -> CallFailure:
    return CallFailure(
        kind="context_too_long",
        message=f"the conversation is too long for {spec.name}: {_said(spec, error)}",
        next_step="Choose a model with a larger context window, or a smaller goal.",
        # Many servers count the longest reply that was asked for as part of the context.
        quirk=None if "short_output" in spec.quirks else "short_output",
    )


def _connection(spec: ModelSpec, why: str) -> CallFailure:
    return CallFailure(
        kind="connection",
        message=f"no connection to the model at {spec.base_url}: {why}",
        next_step="Check that the address is right and that a server answers there.",
        retryable=True,
    )


def _said(spec: ModelSpec, error: BaseException) -> str:
    """The endpoint's own words, short, and without our key should it repeat it."""
    body = getattr(error, "body", None)
    text = body.get("message") if isinstance(body, dict) else None
    words = " ".join(str(text or str(error) or type(error).__name__).split())
    key = spec.api_key.reveal()
    if len(key) > 4:
        words = words.replace(key, "***")
    return words if len(words) <= _SHOWN else words[:_SHOWN] + "…"


def _retry_after(headers: httpx2.Headers) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]+)?", value):
            return float(value) * unit
    moment = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return max(0.0, email.utils.mktime_tz(moment) - time.time()) if moment is not None else None
