"""How large the upload of an attachment may be; asked before Django stores any of it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from apps.agents.services.attachments import attachment_limit
from apps.authentication.scopes import scope_signed_in

_ADDRESS = "/api/agents/attachments/"
#: What a multipart body has besides the file.
_ENVELOPE = 64 * 1024


async def attachment_limit_for(scope: MutableMapping[str, Any]) -> int | None:
    """Bytes that this request may send: an attachment's size for a signed-in user's upload, else None."""
    if scope["method"] != "POST" or scope["path"] != _ADDRESS or not await scope_signed_in(scope):
        return None
    return attachment_limit() + _ENVELOPE
