"""What surrounds every HTTP request: its id, its line in the log, and one shape for every error."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable

import structlog
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import is_valid_path

from apps.core.problems import CONTENT_TYPE, problem_bytes, problem_for_status

logger = logging.getLogger("archon.request")

#: The rest of the chain: a coroutine function under ASGI, a plain one under WSGI.
GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Middleware:
    """Base of what looks at requests and responses, under ASGI and WSGI alike.

    Under ASGI it must not be a plain function: Django would then hold a thread for the whole request, which waits for
    the event loop, and a server that stops its loop meanwhile would never end.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        raise NotImplementedError


class RequestContextMiddleware(_Middleware):
    """Gives the request an id (the client's own when it is sane), and logs one line about it.

    The id is in every log line that is written on behalf of the request, in the response's ``X-Request-ID`` and in
    every problem document. The line names the path without its query, for a query may hold a ticket; no header and no
    body is ever logged.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        offered = request.headers.get("X-Request-ID", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            answer = self._get_response(request)
            if isinstance(answer, HttpResponseBase):
                return _told(request, answer, request_id, started)
        return self._awaited(request, answer, request_id, started)

    async def _awaited(
        self, request: HttpRequest, answer: Awaitable[HttpResponseBase], request_id: str, started: float
    ) -> HttpResponseBase:
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            return _told(request, await answer, request_id, started)


def _told(request: HttpRequest, response: HttpResponseBase, request_id: str, started: float) -> HttpResponseBase:
    """The response with its headers, once its line is in the log."""
    response.headers["X-Request-ID"] = request_id
    response.headers.setdefault("Cache-Control", "no-store")
    user = getattr(request, "user", None)
    logger.log(
        logging.WARNING if response.status_code >= 500 else logging.INFO,
        "request",
        extra={
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
            "user_id": str(user.pk) if user is not None and user.pk is not None else None,
        },
    )
    return response


class ProblemDetailsMiddleware(_Middleware):
    """Turns the error pages that Django itself makes under ``/api/`` into problem documents.

    They come from below the views (no such URL, a foreign Host header, a crash in a middleware) and would be HTML. A
    read of an address that lacks only its last slash is redirected to the one that has it; a write is told of it.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        answer = self._get_response(request)
        if isinstance(answer, HttpResponseBase):
            return _problem_told(request, answer)
        return self._awaited(request, answer)

    async def _awaited(self, request: HttpRequest, answer: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        return _problem_told(request, await answer)


def _problem_told(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if (
        response.status_code < 400
        or not request.path.startswith("/api/")
        or not isinstance(response, HttpResponse)
        or not response.headers.get("Content-Type", "").startswith("text/")
    ):
        return response
    detail, next_step = "", ""
    if response.status_code == 404:
        with_slash = f"{request.path_info}/"
        detail = "There is no such address."
        next_step = "see /api/docs/ for the addresses that exist"
        if not request.path_info.endswith("/") and is_valid_path(with_slash):
            if request.method in ("GET", "HEAD"):
                return _redirected(response, request.get_full_path(force_append_slash=True))
            next_step = f"use {with_slash}, with the slash at its end"
    document = problem_for_status(response.status_code, detail=detail, next_step=next_step)
    return _replaced(response, problem_bytes(document), CONTENT_TYPE)


def _redirected(response: HttpResponse, location: str) -> HttpResponse:
    response.status_code = 308
    response.headers["Location"] = location
    return _replaced(response, b"", "text/plain")


def _replaced(response: HttpResponse, content: bytes, content_type: str) -> HttpResponse:
    """The same response with another body: its security and CORS headers stay."""
    response.content = content
    response.headers["Content-Type"] = content_type
    response.headers["Content-Length"] = str(len(content))
    return response
