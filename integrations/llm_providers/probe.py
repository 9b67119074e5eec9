"""Whether a key opens its endpoint, by the vendor's listing of models: that costs nothing and loads no library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from .credentials import NO_KEY, endpoint_parse
from .endpoint_http import MAX_JSON_BYTES, EndpointClient, RedirectRefused
from .failures import Refusal, Wording, refusal_failure, transport_failure, unreadable_failure
from .types import CallFailure, FailureKind, ModelSpec

#: Seconds for the whole of it.
PATIENCE_S = 15.0
_WORDING = Wording("a listing of models", "most end in /v1")
_ANTHROPIC_VERSION = "2023-06-01"
_MOST_MODELS = 1_000


@dataclass(frozen=True)
class ProbeResult:
    """What an endpoint says to a key. ``kind`` None: it takes it."""

    ok: bool
    kind: FailureKind | None
    message: str
    next_step: str
    #: Whether the listing has the model; None: it doesn't say.
    model_listed: bool | None
    models: tuple[str, ...]


async def model_probe(spec: ModelSpec) -> ProbeResult:
    """Ask for the listing. Never raises for what the endpoint does; the key is in no message."""
    if spec.protocol == "scripted":
        return ProbeResult(True, None, "A recorded dialogue needs no key.", "", None, ())
    try:
        response, content = await _listing(spec)
        if response.status_code != 200:
            return _refused(spec, response, content)
        models = tuple(_names(json.loads(content)))
    except (httpx2.HTTPError, RedirectRefused, OSError, ValueError) as error:
        return _failed(transport_failure(spec, error) or unreadable_failure(spec, error, _WORDING))
    listed = _is_listed(spec, models) if models else None
    if listed is False:
        return ProbeResult(
            True,
            None,
            f"{spec.base_url} takes the key, but does not list '{spec.model}' among its {len(models)} models.",
            "Check the model's name.",
            False,
            models,
        )
    return ProbeResult(True, None, f"{spec.base_url} takes the key.", "", listed, models)


async def _listing(spec: ModelSpec) -> tuple[httpx2.Response, bytes]:
    endpoint = endpoint_parse(spec.base_url)
    if endpoint is None:
        raise ValueError(f"not a canonical address: {spec.base_url!r}")
    path, headers = _request(spec)
    timeout = httpx2.Timeout(PATIENCE_S, connect=min(PATIENCE_S, spec.connect_timeout_s))
    async with EndpointClient(endpoint=endpoint, timeout=timeout, headers=set(headers)) as client:
        async with client.stream("GET", spec.base_url + path, headers=headers) as response:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > MAX_JSON_BYTES:
                    raise ValueError(f"an answer of more than {MAX_JSON_BYTES} bytes")
            return response, bytes(content)


def _request(spec: ModelSpec) -> tuple[str, dict[str, str]]:
    key = spec.api_key.reveal()
    if spec.protocol == "anthropic":
        return "/v1/models?limit=1000", {"x-api-key": key, "anthropic-version": _ANTHROPIC_VERSION}
    if spec.protocol == "gemini":
        return "/v1beta/models?pageSize=1000", {"x-goog-api-key": key}
    if spec.provider == "openrouter":
        # Everybody may see its models; this is for who has a key.
        return "/key", {"authorization": f"Bearer {key}"}
    return "/models", {} if key == NO_KEY else {"authorization": f"Bearer {key}"}


def _names(document: Any) -> Iterator[str]:
    if not isinstance(document, dict):
        raise ValueError("an answer that is no object")
    listed = document.get("data", document.get("models"))
    if isinstance(listed, dict):  # OpenRouter's word about the key
        return
    if not isinstance(listed, list):
        raise ValueError("an answer without a list of models")
    for item in listed[:_MOST_MODELS]:
        name = item.get("id") or item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str):
            yield name.removeprefix("models/")


def _is_listed(spec: ModelSpec, models: tuple[str, ...]) -> bool:
    """Dated and tagged names are listed where their short ones are called, and the other way round."""
    wanted = spec.model.removeprefix("models/").lower()
    return any(
        name.lower() == wanted
        or name.lower().startswith((f"{wanted}-", f"{wanted}:"))
        or wanted.startswith(name.lower())
        for name in models
    )


def _refused(spec: ModelSpec, response: httpx2.Response, content: bytes) -> ProbeResult:
    try:
        document = json.loads(content)
        error = document.get("error", document)
        text = str(error.get("message") or error) if isinstance(error, dict) else str(error)
        code = str(error.get("details") or error.get("code") or "") if isinstance(error, dict) else ""
    except (ValueError, AttributeError):
        text, code = content[:500].decode(errors="replace"), ""
    refusal = Refusal(status=response.status_code, text=text, code=code, headers=response.headers)
    if response.status_code in (404, 405, 501):
        return ProbeResult(
            False,
            "not_found",
            f"{spec.base_url} has no listing of models, so the key cannot be tested without a call that costs.",
            "Check the base URL; where it is right, start a session to see whether the key works.",
            None,
            (),
        )
    return _failed(refusal_failure(spec, refusal, _WORDING))


def _failed(failure: CallFailure) -> ProbeResult:
    return ProbeResult(False, failure.kind, failure.message, failure.next_step, None, ())
