"""The HTTP client for one endpoint of a model.

It sends to that endpoint alone, carries no header that belongs to another, follows no redirect, bounds what it reads,
lets a server that answers a streaming request with plain JSON look like one that streams, so that the answer is not
asked for twice, and an error that comes as a success look like the refusal that it is.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import httpx2

from .credentials import Endpoint, endpoint_parse

#: A larger answer is cut off by closing the connection.
MAX_JSON_BYTES = 32 * 1024 * 1024

# The environment's organisation, project and custom headers are for the vendor; elsewhere only these go out.
_HEADERS = {
    "host",
    "accept",
    "accept-encoding",
    "connection",
    "content-type",
    "content-length",
    "user-agent",
    "x-stainless-raw-response",  # the client library's note to itself
}
#: Headers that told of a body as it came.
_OF_THE_BODY = {"content-encoding", "content-length", "transfer-encoding"}
#: What the vendors call errors of a kind.
_CODES = (
    (400, ("invalid_request_error", "context_length_exceeded", "INVALID_ARGUMENT")),
    (401, ("invalid_api_key", "authentication_error", "UNAUTHENTICATED")),
    (402, ("insufficient_quota", "billing_error")),
    (403, ("permission_error", "PERMISSION_DENIED")),
    (404, ("model_not_found", "not_found_error", "NOT_FOUND")),
    (429, ("rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED")),
)
#: Turns an answer into the events that a stream of it would have had: name (or empty) and document. Raises ValueError,
#: KeyError or TypeError where it is no answer of the protocol.
AsEvents = Callable[[Any], Iterable[tuple[str, Any]]]


class RedirectRefused(Exception):
    """The endpoint wants the request elsewhere. Following would carry the key and the code to an unchecked host."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class EndpointClient(httpx2.AsyncClient):
    """Talks to one endpoint. ``headers`` are those of the protocol that go out beside the usual ones."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        timeout: httpx2.Timeout,
        headers: Iterable[str] = (),
        home: str = "",
        as_events: AsEvents | None = None,
    ) -> None:
        super().__init__(
            timeout=timeout,
            verify=_certificates(),
            follow_redirects=False,
            # The proxy of the environment is for hosts outside.
            trust_env=not endpoint.is_loopback,
        )
        self._endpoint = endpoint
        self._allowed = _HEADERS.union(headers)
        self._foreign = endpoint.url != home
        self._as_events = as_events

    async def send(self, request: httpx2.Request, **kwargs: Any) -> httpx2.Response:
        target = endpoint_parse(_without_query(request.url))
        if target is None or not self._endpoint.covers(target):
            raise RuntimeError(f"a request to {request.url} must not leave through the client of {self._endpoint.url}")
        # Whatever a vendor's library thinks of time-outs.
        request.extensions["timeout"] = self.timeout.as_dict()
        if self._foreign:
            for name in list(request.headers):
                if name not in self._allowed:
                    del request.headers[name]
        response = await super().send(request, **kwargs)
        if response.is_redirect:
            location = response.headers.get("location", "")
            await response.aclose()
            raise RedirectRefused(location[:200])
        if response.status_code == 200 and response.headers.get("content-type", "").startswith("text/html"):
            await response.aclose()
            raise ValueError("a page of HTML")
        if (
            self._as_events is not None
            and response.status_code == 200
            and response.headers.get("content-type", "").startswith("application/json")
        ):
            return await _document(request, response, self._as_events)
        return response


def _without_query(url: httpx2.URL) -> str:
    """The address as a string; Google's has a colon in its last segment, and says in its query how it streams."""
    text = str(url).partition("?")[0]
    head, slash, last = text.rpartition("/")
    return head + slash + last.replace(":", "-") if "://" in head else text


def _wants_stream(request: httpx2.Request) -> bool:
    if request.url.path.endswith(":streamGenerateContent"):
        return True
    try:
        return json.loads(request.content).get("stream") is True
    except (ValueError, AttributeError, httpx2.RequestNotRead):
        return False


async def _document(request: httpx2.Request, response: httpx2.Response, as_events: AsEvents) -> httpx2.Response:
    """The same answer, as a stream of events where one was asked for; an error in it as the refusal that it is."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MAX_JSON_BYTES:
            await response.aclose()
            raise ValueError(f"an answer of more than {MAX_JSON_BYTES} bytes")
    await response.aclose()
    answer = json.loads(bytes(body))
    if (status := error_status(answer)) is not None:
        return httpx2.Response(status, json=answer, request=request)
    if not _wants_stream(request):
        kept = {name: value for name, value in response.headers.items() if name not in _OF_THE_BODY}
        return httpx2.Response(200, headers=kept, content=bytes(body), request=request)
    lines = [
        (f"event: {name}\n" if name else "")
        + f"data: {document if isinstance(document, str) else json.dumps(document)}"
        for name, document in as_events(answer)
    ]
    content = "".join(f"{line}\n\n" for line in lines).encode()
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content, request=request)


def error_status(answer: Any) -> int | None:
    """The HTTP status of an error that came as a success, as gateways send it on; None: it is no error."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error or any(answer.get(name) for name in ("choices", "output", "content", "candidates")):
        return None
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    return code_status(str(code)) or 502


def code_status(code: str) -> int | None:
    """The HTTP status that an error's code stands for; None: not known."""
    if re.fullmatch(r"[45][0-9]{2}", code):
        return int(code)
    return next((status for status, words in _CODES if code in words), None)


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    # 30 ms each: one for all clients.
    return httpx2.create_ssl_context()
