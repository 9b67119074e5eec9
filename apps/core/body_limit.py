"""A cap on request bodies below Django, which under ASGI stores the whole body before any view can refuse it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from apps.core.problems import CONTENT_TYPE, problem_bytes, problem_document

logger = logging.getLogger("archon.request")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Typed loosely, for frameworks type the same three things in their own ways.
Application = Callable[[Any, Any, Any], Awaitable[None]]
#: The limit in bytes of a request that may be larger than others, or None for one that may not.
LimitFor = Callable[[Scope], Awaitable[int | None]]


class _BodyTooLarge(Exception):
    """More came than may come."""


class BodyLimit:
    """Passes HTTP requests on and answers 413 as soon as a body is over its limit, by its header or by what came.

    ``limit`` is in bytes; ``limit_for`` may allow more to a request (an upload by somebody who is signed in).
    """

    def __init__(self, application: Application, *, limit: int, limit_for: LimitFor) -> None:
        self._application = application
        self._limit = limit
        self._limit_for = limit_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = _content_length(scope)
        if declared == 0 or (declared is None and scope["method"] in ("GET", "HEAD")):
            await self._application(scope, receive, send)
            return
        limit = await self._limit_for(scope) or self._limit
        if declared is not None and declared > limit:
            await _refuse(scope, send, limit)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _BodyTooLarge
            return message

        try:
            await self._application(scope, receive_counted, send)
        except _BodyTooLarge:
            # Raised while the body is being read, which is before Django sends anything.
            await _refuse(scope, send, limit)


def first_limit(*asked: LimitFor) -> LimitFor:
    """The first of these that knows a limit for a request."""

    async def limit_for(scope: Scope) -> int | None:
        for ask in asked:
            if (limit := await ask(scope)) is not None:
                return limit
        return None

    return limit_for


def _content_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else None
        if name.lower() == b"transfer-encoding":
            return None
    return 0


async def _refuse(scope: Scope, send: Send, limit: int) -> None:
    # Below the middleware, so it gives the request its id and its line in the log itself.
    request_id = uuid.uuid4().hex
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        document = problem_document(
            status=413, code="too_large", detail=f"The request body is larger than {limit // 1024} KiB."
        )
        logger.info("request", extra={"method": scope["method"], "path": scope["path"], "status": 413})
    body = problem_bytes(document)
    headers = [
        (b"x-request-id", request_id.encode()),
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
