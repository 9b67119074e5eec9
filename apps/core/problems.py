"""Every error of the API as one shape: RFC 9457 problem details, ``application/problem+json``.

A document has ``type`` (a URN that ends in the code), ``title``, ``status``, ``detail`` (what happened), ``code`` (for
programs), ``next_step`` (what to do about it, may be empty) and ``request_id`` (to be found in the log); a request with
invalid fields also has ``errors``: field name, dotted where nested, to messages.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from django.http import Http404
from django.http.request import UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response

from apps.core.errors import ApplicationError, NotAuthenticated, TooLarge, Unavailable

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
#: The challenge that a 401 carries.
CHALLENGE = 'Bearer realm="archon"'

Document = dict[str, Any]

_CODES = {
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.AuthenticationFailed: "not_authenticated",
    exceptions.PermissionDenied: "permission_denied",
    exceptions.NotFound: "not_found",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.ParseError: "malformed_request",
    exceptions.Throttled: "limit_reached",
}
_NEXT_STEPS = {
    "not_authenticated": "send `Authorization: Bearer TOKEN` with an access token or an API key",
    "unsupported_media_type": "send a body of a content type that this endpoint documents in /api/schema/",
    "method_not_allowed": "the Allow header names the methods that exist here",
    "server_error": "report this with the request id; the server's log has the details",
}


def problem_document(
    *,
    status: int,
    code: str,
    detail: str,
    title: str = "",
    next_step: str = "",
    errors: Mapping[str, list[str]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Document:
    """The members of one problem; ``extra`` adds members and never replaces one of these."""
    document: Document = {
        **(extra or {}),
        "type": f"urn:archon:problem:{code}",
        "title": title or code.replace("_", " ").capitalize(),
        "status": status,
        "detail": _encodable(detail),
        "code": code,
        "next_step": next_step or _NEXT_STEPS.get(code, ""),
        "request_id": structlog.contextvars.get_contextvars().get("request_id", ""),
    }
    if errors is not None:
        document["errors"] = dict(errors)
    return document


def problem_for_status(status: int, *, detail: str = "", next_step: str = "") -> Document:
    """A problem about which nothing but its HTTP status is known."""
    codes = {400: "invalid_input", 403: "permission_denied", 404: "not_found", 413: "too_large"}
    phrase = HTTPStatus(status).phrase
    code = codes.get(status, "server_error" if status == 500 else phrase.lower().replace(" ", "_").replace("-", "_"))
    return problem_document(status=status, code=code, detail=detail or phrase, next_step=next_step)


def problem_bytes(document: Document) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def errors_flatten(detail: Any, *, path: str = "") -> dict[str, list[str]]:
    """DRF's nested validation errors as dotted field name to messages; what concerns no field is under ``""``."""
    if isinstance(detail, Mapping):
        flat: dict[str, list[str]] = {}
        for name, inner in detail.items():
            name = "" if name == "non_field_errors" else str(name)
            joined = f"{path}.{name}" if path and name else path or name
            for field, messages in errors_flatten(inner, path=joined).items():
                flat.setdefault(field, []).extend(messages)
        return flat
    if isinstance(detail, list | tuple):
        flat = {}
        for position, inner in enumerate(detail):
            nested = isinstance(inner, Mapping | list | tuple)
            for field, messages in errors_flatten(inner, path=f"{path}.{position}" if nested else path).items():
                flat.setdefault(field, []).extend(messages)
        return flat
    return {path: [_encodable(str(detail))]}


def _encodable(text: str) -> str:
    """Messages quote what the client sent, which may hold half a surrogate pair, and that has no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """The problem document for whatever a view raised; DRF's ``EXCEPTION_HANDLER``."""
    document, headers = _problem(error)
    if document["status"] == 500:
        logger.error("unexpected error in a view", exc_info=error)
        # Django's test client raises again what is sent here, so that no test mistakes a bug for an answer.
        got_request_exception.send(sender=None, request=context.get("request"))
    return Response(document, status=document["status"], headers=headers, content_type=CONTENT_TYPE)


def _problem(error: Exception) -> tuple[Document, dict[str, str]]:
    headers: dict[str, str] = {}
    match error:
        case Http404():
            return problem_for_status(404, detail="There is nothing here, or you may not know of it."), headers
        case DjangoPermissionDenied():
            return problem_for_status(403, detail="You may not do this."), headers
        case RequestDataTooBig():
            error = TooLarge("The request body is too large.")
        case SuspiciousOperation() | UnreadablePostError():
            return problem_for_status(400, detail="The request cannot be read."), headers
        case OperationalError() | InterfaceError():
            logger.warning("database unavailable: %s", error)
            error = Unavailable("The database cannot be reached.", next_step="try again shortly", retry_after=2)
    if isinstance(error, exceptions.ValidationError):
        errors = errors_flatten(error.detail)
        fields = [name for name in errors if name]
        detail = (
            f"Not valid: {', '.join(fields)}."
            if fields
            else " ".join(message for messages in errors.values() for message in messages)
        )
        return problem_document(status=400, code="invalid_input", detail=detail, errors=errors), headers
    if isinstance(error, exceptions.APIException):
        code = _CODES.get(type(error), str(error.default_code))
        wait = getattr(error, "wait", None)
        if wait is not None:
            headers["Retry-After"] = str(math.ceil(wait))
        if error.status_code == 401:
            headers["WWW-Authenticate"] = CHALLENGE
        return problem_document(status=error.status_code, code=code, detail=str(error.detail)), headers
    if isinstance(error, ApplicationError):
        if "retry_after" in error.extra:
            headers["Retry-After"] = str(math.ceil(error.extra["retry_after"]))
        if isinstance(error, NotAuthenticated):
            headers["WWW-Authenticate"] = CHALLENGE
        return (
            problem_document(
                status=error.status,
                code=error.code,
                detail=error.message,
                next_step=error.next_step,
                extra=error.extra,
            ),
            headers,
        )
    return problem_for_status(500, detail="Something went wrong on the server."), headers
