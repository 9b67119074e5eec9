"""What an endpoint's refusals and silences mean, whichever protocol they came by."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import httpx2

from .endpoint_http import RedirectRefused, code_status
from .types import CallFailure, ModelSpec, Quirk

_SHOWN = 500
_MAX_CAUSES = 8
#: What a library raises when a body is not what it says it is.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError)
_QUOTA = re.compile(
    r"insufficient_quota|billing_hard_limit_reached|billing_not_active|billing_error|credit balance is too low"
    r"|PerDay",
)
_CONTEXT = re.compile(
    r"context_length_exceeded|maximum context length|context window|prompt is too long|too many tokens"
    r"|exceeds? the (?:available )?context|exceed_context_size|exceeds the maximum number of tokens|context limit",
    re.IGNORECASE,
)
_LONG_OUTPUT = re.compile(
    r"max_?(?:completion_|output_)?tokens.*(?:too (?:large|high|big)|at most|exceed|less than|maximum|> )"
    r"|supported range is from 1",
)
_BAD_KEY = re.compile(r"API_KEY_INVALID|API key not valid|API key expired|invalid x-api-key", re.IGNORECASE)


@dataclass(frozen=True)
class Refusal:
    """An endpoint's answer that is none."""

    status: int
    #: Its own words, and what it calls the kind of error.
    text: str
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds to wait, where that stands in the body.
    retry_after: float | None = None


@dataclass(frozen=True)
class Wording:
    """How a protocol is called, and where its base URLs end."""

    title: str
    #: Of the advice to check a base URL.
    ending: str


def said(spec: ModelSpec, words: object) -> str:
    """The endpoint's own words, short, and without our key should it repeat it."""
    text = " ".join(str(words).split())
    key = spec.api_key.reveal()
    if len(key) > 4:
        text = text.replace(key, "***")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def is_stored(key_source: str) -> bool:
    """Whether a key is one that somebody stored with the server, rather than in one of its variables."""
    return key_source.startswith("the ")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, outermost first: libraries wrap each other's."""
    present: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if present is None:
            return
        yield present
        present = present.__cause__


def transport_failure(spec: ModelSpec, error: BaseException) -> CallFailure | None:
    """Of an error that came from below the protocol: a redirect, a time-out, no connection. None: it did not."""
    for cause in causes(error):
        if (found := _transport_failure(spec, cause)) is not None:
            return found
    return None


def _transport_failure(spec: ModelSpec, error: BaseException) -> CallFailure | None:
    if isinstance(error, RedirectRefused):
        return CallFailure(
            kind="bad_response",
            message=f"{spec.base_url} answers with a redirect to {error.location}, which is not followed",
            next_step="Name the final address as the base URL.",
        )
    if isinstance(error, httpx2.ConnectTimeout):
        return _connection(spec, "it cannot be reached in time")
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return CallFailure(
            kind="timeout",
            message=f"{spec.name} at {spec.base_url} did not answer in time",
            next_step="Try again later, or choose a faster model.",
            retryable=True,
            charged=True,
        )
    if isinstance(error, httpx2.TransportError):
        return _connection(spec, said(spec, str(error) or type(error).__name__))
    return None


def unreadable_failure(spec: ModelSpec, error: BaseException, wording: Wording) -> CallFailure:
    """Of an answer that is not what the protocol says."""
    empty = "No generation chunks" in str(error) and "no_stream" not in spec.quirks and spec.stream
    return CallFailure(
        kind="bad_response",
        message=f"{spec.base_url} answers something that is not {wording.title}: "
        f"{said(spec, str(error) or type(error).__name__)}",
        next_step=f"Check that the base URL is the one of an API of this protocol; {wording.ending}.",
        retryable=True,
        quirk="no_stream" if empty else None,
    )


def broken_off_failure(spec: ModelSpec, refusal: Refusal) -> CallFailure:
    """Of an error that came within a stream."""
    if _CONTEXT.search(refusal.text):
        return _context(spec, refusal)
    status = code_status(refusal.code)
    if status in (401, 402, 403, 429):
        return refusal_failure(spec, replace(refusal, status=status), Wording("", ""))
    return CallFailure(
        kind="overloaded",
        message=f"{spec.name} at {spec.base_url} broke off: {said(spec, refusal.text)}",
        next_step="Try again later.",
        retryable=True,
        charged=True,
    )


def refusal_failure(spec: ModelSpec, refusal: Refusal, wording: Wording) -> CallFailure:
    """Of an HTTP status that is an error."""
    status, text = refusal.status, said(spec, refusal.text)
    if status in (401, 403) or (status == 400 and _BAD_KEY.search(f"{refusal.code} {refusal.text}")):
        where = spec.key_source or "ARCHON_MODEL_KEYS"
        had = f"the key in {where}" if spec.key_source else "a request without a key"
        change = f"Set {where} to"
        if is_stored(where):
            had, change = where, f"Store another one (./archon keys set {spec.provider}),"
        return CallFailure(
            kind="auth",
            message=f"{spec.base_url} refuses {had}: {text}",
            next_step=f"{change} a key that is valid there and may use {spec.model}.",
        )
    if status == 404:
        return CallFailure(
            kind="not_found",
            message=f"{spec.base_url} knows no model '{spec.model}', or is not the base URL of its API: {text}",
            next_step=f"Check the model's name and the base URL; {wording.ending}.",
        )
    if status == 402 or (status in (400, 429) and _QUOTA.search(f"{refusal.code} {refusal.text}")):
        return CallFailure(
            kind="quota",
            message=f"the account at {spec.base_url} has no credit left: {text}",
            next_step="Add credit with the provider, or choose another model.",
        )
    if status == 429:
        return CallFailure(
            kind="rate_limited",
            message=f"{spec.base_url} limits the rate: {text}",
            next_step="Wait, and try again.",
            retryable=True,
            retry_after=_retry_after(refusal),
        )
    if (status >= 500 and status != 501) or status in (408, 409, 425):
        return CallFailure(
            kind="overloaded",
            message=f"{spec.base_url} fails with HTTP {status}: {text}",
            next_step="Try again later.",
            retryable=True,
            retry_after=_retry_after(refusal),
        )
    if status == 413 or (status == 400 and _CONTEXT.search(refusal.text)):
        return _context(spec, refusal)
    return CallFailure(
        kind="bad_request",
        message=f"{spec.base_url} refuses the request with HTTP {status}: {text}",
        next_step=f"Choose a model that takes such requests through {wording.title}.",
        quirk=_quirk(spec, refusal.text) if status in (400, 422, 501) else None,
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
    elif "prompt_cache" in lowered or "cache_control" in lowered:
        found = "no_cache_key"
    elif "response_format" in lowered or "json_schema" in lowered or "json_object" in lowered or "grammar" in lowered:
        found = "no_json_schema" if "no_json_schema" not in spec.quirks else "no_json_object"
    elif "encrypted content is not" in lowered or (
        spec.effort is not None and re.search(r"reasoning|effort|thinking", lowered)
    ):
        found = "no_effort"
    elif "temperature" in lowered:
        found = "no_temperature"
    elif re.search(r"\btools?\b|\btool_choice\b|function call|functions", lowered) and not re.search(
        r"tool_call_id|tool_use_id|tool_result|tool message|role 'tool'", lowered
    ):
        found = "no_tools"
    elif re.search(r"\bimages?\b|image_url|vision|multimodal|modality", lowered):
        found = "no_images"
    elif re.search(r"\bstream(?:ing)?\b", lowered):
        found = "no_stream"
    return None if found in spec.quirks else found


def _context(spec: ModelSpec, refusal: Refusal) -> CallFailure:
    return CallFailure(
        kind="context_too_long",
        message=f"the conversation is too long for {spec.name}: {said(spec, refusal.text)}",
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


def _retry_after(refusal: Refusal) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = refusal.headers.get(name, "")
        if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]+)?", value):
            return float(value) * unit
    moment = email.utils.parsedate_tz(refusal.headers.get("retry-after", ""))
    return max(0.0, email.utils.mktime_tz(moment) - time.time()) if moment is not None else refusal.retry_after
