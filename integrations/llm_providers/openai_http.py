"""The HTTP client for one endpoint of the OpenAI protocol.

It sends to that endpoint alone, carries no header that belongs to another, follows no redirect, and lets a server that
answers a streaming request with plain JSON look like one that streams, so that the answer is not asked for twice.
"""

from __future__ import annotations

import json
import ssl
from functools import lru_cache
from typing import Any

import httpx2

from .credentials import OPENAI_URL, Endpoint, endpoint_parse

#: A larger answer is cut off by closing the connection.
MAX_JSON_BYTES = 32 * 1024 * 1024

# OPENAI_ORG_ID, OPENAI_PROJECT_ID and custom headers of the environment are for OpenAI; elsewhere only these go out.
_HEADERS = {
    "host",
    "accept",
    "accept-encoding",
    "connection",
    "content-type",
    "content-length",
    "authorization",
    "user-agent",
    "x-stainless-raw-response",  # the client library's note to itself
}


class RedirectRefused(Exception):
    """The endpoint wants the request elsewhere. Following would carry the key and the code to an unchecked host."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class EndpointClient(httpx2.AsyncClient):
    """Talks to one endpoint."""

    def __init__(self, *, endpoint: Endpoint, timeout: httpx2.Timeout) -> None:
        super().__init__(
            timeout=timeout,
            verify=_certificates(),
            follow_redirects=False,
            # The proxy of the environment is for hosts outside.
            trust_env=not endpoint.is_loopback,
        )
        self._endpoint = endpoint
        self._foreign = endpoint.url != OPENAI_URL

    async def send(self, request: httpx2.Request, **kwargs: Any) -> httpx2.Response:
        target = endpoint_parse(str(request.url))
        if target is None or not self._endpoint.covers(target):
            raise RuntimeError(f"a request to {request.url} must not leave through the client of {self._endpoint.url}")
        if self._foreign:
            for name in list(request.headers):
                if name not in _HEADERS:
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
            response.status_code == 200
            and response.headers.get("content-type", "").startswith("application/json")
            and _wants_stream(request)
        ):
            return await _streamed(request, response)
        return response


def _wants_stream(request: httpx2.Request) -> bool:
    try:
        return json.loads(request.content).get("stream") is True
    except (ValueError, AttributeError, httpx2.RequestNotRead):
        return False


async def _streamed(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """The same answer as a stream of events. Raises ValueError or KeyError where it is no chat completion."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MAX_JSON_BYTES:
            await response.aclose()
            raise ValueError(f"an answer of more than {MAX_JSON_BYTES} bytes")
    await response.aclose()
    answer = json.loads(bytes(body))
    if not isinstance(answer, dict) or not answer.get("choices"):
        raise ValueError(f"an answer without choices: {bytes(body[:200])!r}")
    message = answer["choices"][0]["message"]
    calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls") or ())]
    delta = {"role": "assistant", "content": message.get("content")}
    if calls:
        delta["tool_calls"] = calls
    head = {key: answer.get(key) for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = {"index": 0, "delta": delta, "finish_reason": answer["choices"][0].get("finish_reason")}
    events = [json.dumps(head | {"choices": [choice]})]
    if answer.get("usage"):
        events.append(json.dumps(head | {"choices": [], "usage": answer["usage"]}))
    content = "".join(f"data: {event}\n\n" for event in (*events, "[DONE]")).encode()
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content, request=request)


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    # 30 ms each: one for all clients.
    return httpx2.create_ssl_context()
