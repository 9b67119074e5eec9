"""What surrounds every HTTP request: its id, its line in the log, and one shape for every error."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import is_valid_path

from apps.core.problems import CONTENT_TYPE, problem_bytes, problem_for_status

logger = logging.getLogger("archon.request")

GetResponse = Callable[[HttpRequest], HttpResponseBase]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContextMiddleware:
    """Gives the request an id (the client's own when it is sane), and logs one line about it.

    The id is in every log line that is written on behalf of the request, in the response's ``X-Request-ID`` and in
    every problem document. The line names the path without its query, for a query may hold a ticket; no header and no
    body is ever logged.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        offered = request.headers.get("X-Request-ID", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self._get_response(request)
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


class ProblemDetailsMiddleware:
    """Turns the error pages that Django itself makes under ``/api/`` into problem documents.

    They come from below the views (no such URL, a foreign Host header, a crash in a middleware) and would be HTML. A
    read of an address that lacks only its last slash is redirected to the one that has it; a write is told of it.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
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
