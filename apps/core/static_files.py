"""Static files of the installed apps (Swagger UI, ReDoc), served by the API itself: offline, and no second server."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import http_date, quote_etag
from django.views.decorators.http import condition, require_safe


def _file(path: str) -> Path:
    found = finders.find(path) if path and "\0" not in path else None
    if not isinstance(found, str) or not Path(found).is_file():
        raise Http404
    return Path(found)


def _etag(request: HttpRequest, path: str) -> str:
    status = _file(path).stat()
    return quote_etag(f"{int(status.st_mtime):x}-{status.st_size:x}")


@require_safe
@condition(etag_func=_etag)
def static_file(request: HttpRequest, path: str) -> HttpResponseBase:
    """The file of that name in some app's ``static`` folder, or 404."""
    file = _file(path)
    content_type, encoding = mimetypes.guess_type(file.name)
    # Read whole: the largest is 2 MB, and an iterator would be consumed in one go under ASGI anyway.
    response = HttpResponse(file.read_bytes(), content_type=content_type or "application/octet-stream")
    response.headers["Last-Modified"] = http_date(file.stat().st_mtime)
    response.headers["Cache-Control"] = "public, max-age=3600"
    if encoding:
        response.headers["Content-Encoding"] = encoding
    return response
