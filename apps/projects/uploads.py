"""Git bundles and archives on their way in: never in memory, never over the cap, never from somebody unknown."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import UnsupportedMediaType

from apps.authentication.scopes import scope_signed_in
from apps.core.errors import InvalidInput, TooLarge

_PATHS = {
    "PUT": re.compile(r"/api/projects/[0-9a-f-]{36}/repository/"),
    "POST": re.compile(r"/api/projects/[0-9a-f-]{36}/repository/archive/"),
}
_CHUNK = 1024 * 1024
_MEDIA_TYPES = {
    "bundle": ("application/octet-stream", "application/x-git-bundle", ""),
    "archive": (
        "application/octet-stream",
        "application/zip",
        "application/gzip",
        "application/x-gzip",
        "application/x-tar",
        "application/x-xz",
        "application/x-bzip2",
        "",
    ),
}
_MADE_BY = {"bundle": "send a git bundle: `git bundle create FILE --all`", "archive": "send a tar.gz or a zip"}


def upload_limit() -> int:
    """Bytes."""
    return settings.ARCHON_UPLOAD_LIMIT_MB * 1024 * 1024


async def upload_limit_for(scope: MutableMapping[str, Any]) -> int | None:
    """What this request may send, in bytes: an upload's size for a signed-in user's, else None.

    Asked below Django, which stores a body before any view can refuse it; so a stranger's upload is cut off here.
    """
    path = _PATHS.get(scope["method"])
    if path is None or not path.fullmatch(scope["path"]):
        return None
    return upload_limit() if await scope_signed_in(scope) else None


@contextmanager
def upload_received(request: HttpRequest, *, what: Literal["bundle", "archive"] = "bundle") -> Iterator[Path]:
    """The body as a file that is there inside the block alone.

    The Content-Length may be missing or lie: what counts is what came. Raises TooLarge over the cap, InvalidInput for
    nothing at all or for another number of bytes than was declared, UnsupportedMediaType for what says it is no file.
    """
    if request.content_type not in _MEDIA_TYPES[what]:
        raise UnsupportedMediaType(str(request.content_type))
    length = request.headers.get("Content-Length", "")
    declared = int(length) if length.isdigit() else None
    limit = upload_limit()
    with tempfile.NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix=f"{what}-") as file:
        received = 0
        while chunk := request.read(_CHUNK):
            received += len(chunk)
            if received > limit:
                raise TooLarge(
                    f"The {what} is larger than {settings.ARCHON_UPLOAD_LIMIT_MB} MiB.",
                    next_step="send less of it, or have the operator raise ARCHON_UPLOAD_LIMIT_MB",
                )
            file.write(chunk)
        if received == 0:
            raise InvalidInput("The body is empty.", next_step=_MADE_BY[what])
        if declared is not None and received != declared:
            raise InvalidInput(f"{received} bytes came of {declared}.", next_step=f"send the {what} again")
        file.flush()
        yield Path(file.name)
