"""Embedding over the network: OpenAI's protocol (and all that speak it: Ollama, vLLM, …) and Google's.

One request at a time, as many texts as an endpoint takes; who calls decides when it is tried again and who pays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import numpy as np

from integrations.llm_providers.credentials import NO_KEY, endpoint_parse
from integrations.llm_providers.endpoint_http import MAX_JSON_BYTES, EndpointClient, RedirectRefused, error_status
from integrations.llm_providers.failures import (
    Refusal,
    Wording,
    refusal_failure,
    transport_failure,
    unreadable_failure,
)
from integrations.llm_providers.types import CallFailure, ModelSpec

from .errors import EmbedError, FailureKind
from .known import PROTOCOLS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONNECT_SECONDS = 10.0
_OPENAI = Wording("OpenAI's embeddings protocol", "most end in /v1")
_GEMINI = Wording("Google's batchEmbedContents protocol", "leave /v1beta out of it")
_KINDS: Mapping[str, FailureKind] = {
    "auth": "key_refused",
    "not_found": "not_found",
    "rate_limited": "rate_limited",
    "quota": "quota",
    "overloaded": "down",
    "timeout": "down",
    "connection": "down",
    "context_too_long": "too_long",
}
#: What Google is told that a text is for.
_TASKS = {"document": "RETRIEVAL_DOCUMENT", "query": "CODE_RETRIEVAL_QUERY"}


@dataclass(frozen=True)
class Embedded:
    """What an endpoint answered: one row a text, each of length one."""

    vectors: NDArray[np.float32]
    #: As it counted them; None: it didn't.
    tokens: int | None


class EmbedEndpoint:
    """One model of one endpoint. Belongs to an event loop; close it with it."""

    def __init__(self, spec: ModelSpec, *, timeout_s: float) -> None:
        endpoint = endpoint_parse(spec.base_url)
        if endpoint is None or spec.protocol not in PROTOCOLS:
            raise ValueError(f"no endpoint that embeds: {spec.name} at {spec.base_url!r}")
        self._spec = spec
        self._is_google = spec.protocol == "gemini"
        self._wording = _GEMINI if self._is_google else _OPENAI
        self._http = EndpointClient(
            endpoint=endpoint,
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_SECONDS, timeout_s)),
            headers={"x-goog-api-key", "authorization"},
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["document", "query"], dimension: int | None, asked: bool = False
    ) -> Embedded:
        """Vectors of at most a batch of texts. Raises :class:`EmbedError`.

        ``dimension`` is the length that they have to have (None: any, the same for all); ``asked``: the model is asked
        for that length.
        """
        url, headers, body = self._request(texts, kind, dimension if asked else None)
        answered = False
        try:
            async with self._http.stream("POST", url, headers=headers, json=body) as response:
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MAX_JSON_BYTES:
                        raise ValueError(f"an answer of more than {MAX_JSON_BYTES} bytes")
            if response.status_code != 200:
                raise self._refused(response.status_code, bytes(content), response.headers)
            document = json.loads(bytes(content))
            if (told := error_status(document)) is not None:
                raise self._refused(told, bytes(content), response.headers)
            # Whatever is wrong with it from here on: it is an answer, and paid for.
            answered = True
            rows, tokens = self._rows(document)
            return Embedded(self._vectors(rows, len(texts), dimension), tokens)
        except (httpx2.HTTPError, RedirectRefused, OSError) as error:
            failure = transport_failure(self._spec, error) or unreadable_failure(self._spec, error, self._wording)
            raise _error(failure) from error
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            unreadable = unreadable_failure(self._spec, error, self._wording)
            raise _error(replace(unreadable, charged=answered)) from error

    def _request(
        self, texts: Sequence[str], kind: Literal["document", "query"], dimension: int | None
    ) -> tuple[str, dict[str, str], dict[str, Any]]:
        key, model = self._spec.api_key.reveal(), self._spec.model
        if not self._is_google:
            headers = {} if key in ("", NO_KEY) else {"authorization": f"Bearer {key}"}
            shorter = {} if dimension is None else {"dimensions": dimension}
            body = {"model": model, "input": list(texts), "encoding_format": "float", **shorter}
            return f"{self._spec.base_url}/embeddings", headers, body
        name = model if model.startswith("models/") else f"models/{model}"
        each: dict[str, Any] = {"model": name, "taskType": _TASKS[kind]}
        if dimension is not None:
            each["outputDimensionality"] = dimension
        requests = [each | {"content": {"parts": [{"text": text}]}} for text in texts]
        url = f"{self._spec.base_url}/v1beta/{name}:batchEmbedContents"
        return url, {"x-goog-api-key": key}, {"requests": requests}

    def _rows(self, document: Any) -> tuple[list[list[float]], int | None]:
        """The vectors in the order of the texts, and the tokens that were counted."""
        if self._is_google:
            counted = (document.get("usageMetadata") or {}).get("promptTokenCount")
            return [each["values"] for each in document["embeddings"]], _count(counted)
        data = document["data"]
        places = [each["index"] for each in data]
        if sorted(places) != list(range(len(data))):
            raise ValueError(f"vectors numbered {str(places)[:60]}")
        rows: list[list[float]] = [each["embedding"] for each in sorted(data, key=lambda each: each["index"])]
        return rows, _count((document.get("usage") or {}).get("prompt_tokens"))

    def _vectors(self, rows: list[list[float]], count: int, dimension: int | None) -> NDArray[np.float32]:
        if len(rows) != count:
            raise ValueError(f"{len(rows)} vectors for {count} texts")
        lengths = {len(row) for row in rows}
        if (len(lengths) > 1 and dimension is None) or 0 in lengths:
            raise ValueError(f"vectors of {len(lengths)} lengths")
        other = next((length for length in lengths if dimension is not None and length != dimension), None)
        if other is not None:
            raise EmbedError(
                f"{self._spec.name} at {self._spec.base_url} returns vectors of {other} numbers, and {dimension} were "
                "agreed",
                kind="dimension",
                next_step="If another model answers there now, give it another name, or set ARCHON_EMBEDDER_DIMENSION "
                f"to {other}: everything is then embedded anew, and the old vectors serve meanwhile.",
                charged=True,
            )
        vectors = np.asarray(rows, np.float32)
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError("vectors with something in them that is no number")
        # Google's are of length one only where they are not shortened.
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (norms > 0).all():
            raise ValueError("a vector of nothing but zeros")
        directions: NDArray[np.float32] = vectors / norms
        return directions

    def _refused(self, status: int, content: bytes, headers: Mapping[str, str]) -> EmbedError:
        try:
            document = json.loads(content)
            error = document.get("error", document)
            text = str(error.get("message") or error) if isinstance(error, dict) else str(error)
            code = str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
        except (ValueError, AttributeError):
            text, code = content[:500].decode(errors="replace"), ""
        refusal = Refusal(status=status, text=text, code=code, headers=headers)
        return _error(refusal_failure(self._spec, refusal, self._wording))


def _error(failure: CallFailure) -> EmbedError:
    too_long = failure.kind == "context_too_long"
    return EmbedError(
        failure.message.replace("the conversation is", "a text is") if too_long else failure.message,
        kind=_KINDS.get(failure.kind, "bad_response"),
        next_step="Choose an embedder that reads longer texts." if too_long else failure.next_step,
        retryable=failure.retryable,
        retry_after=failure.retry_after,
        charged=failure.charged,
    )


def _count(said: Any) -> int | None:
    return said if isinstance(said, int) and said > 0 else None
