"""Git bundles on their way in: never in memory, never over the cap, never from somebody unknown."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import UnsupportedMediaType

from apps.authentication.scopes import scope_signed_in
from apps.core.errors import InvalidInput, TooLarge

_PATH = re.compile(r"/api/projects/[0-9a-f-]{36}/repository/")
_CHUNK = 1024 * 1024
_MEDIA_TYPES = ("application/octet-stream", "application/x-git-bundle", "")


def upload_limit() -> int:
    """Bytes."""
    return settings.ARCHON_UPLOAD_LIMIT_MB * 1024 * 1024


async def upload_limit_for(scope: MutableMapping[str, Any]) -> int | None:
    """What this request may send, in bytes: a bundle's size for a signed-in user's upload, else None.

    Asked below Django, which stores a body before any view can refuse it; so a stranger's upload is cut off here.
    """
    if scope["method"] != "PUT" or not _PATH.fullmatch(scope["path"]):
        return None
    return upload_limit() if await scope_signed_in(scope) else None


@contextmanager
def upload_received(request: HttpRequest) -> Iterator[Path]:
    """The body as a file that is there inside the block alone.

    The Content-Length may be missing or lie: what counts is what came. Raises TooLarge over the cap, InvalidInput for
    nothing at all or for another number of bytes than was declared, UnsupportedMediaType for what says it is no file.
    """
    if request.content_type not in _MEDIA_TYPES:
        raise UnsupportedMediaType(str(request.content_type))
    length = request.headers.get("Content-Length", "")
    declared = int(length) if length.isdigit() else None
    limit = upload_limit()
    with tempfile.NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="bundle-") as file:
        received = 0
        while chunk := request.read(_CHUNK):
            received += len(chunk)
            if received > limit:
                raise TooLarge(
                    f"The bundle is larger than {settings.ARCHON_UPLOAD_LIMIT_MB} MiB.",
                    next_step="send fewer branches, or have the operator raise ARCHON_UPLOAD_LIMIT_MB",
                )
            file.write(chunk)
        if received == 0:
            raise InvalidInput("The body is empty.", next_step="send a git bundle: `git bundle create FILE --all`")
        if declared is not None and received != declared:
            raise InvalidInput(f"{received} bytes came of {declared}.", next_step="send the bundle again")
        file.flush()
        yield Path(file.name)
