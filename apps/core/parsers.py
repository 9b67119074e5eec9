"""Reading request bodies."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from apps.core.errors import TooLarge


def body_read(stream: IO[Any]) -> bytes:
    """A body of at most ``ARCHON_REQUEST_LIMIT_KB``; the limit counts what was read, not what the header says."""
    limit = settings.ARCHON_REQUEST_LIMIT_KB * 1024
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise TooLarge(
            f"The request body is larger than {settings.ARCHON_REQUEST_LIMIT_KB} KiB.",
            next_step="send less at once; repositories go as git bundles to /api/projects/{id}/repository/",
        )
    return body


class LimitedJSONParser(JSONParser):
    """JSON of a size that is bounded (:func:`body_read`)."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = body_read(stream)
        try:
            # JSON is UTF-8; a charset that the client names could be any codec of Python's.
            return super().parse(io.BytesIO(body), media_type, {**(parser_context or {}), "encoding": "utf-8"})
        except RecursionError as error:
            raise ParseError("JSON parse error - nested too deeply") from error
