"""Who is behind a request before Django has read it, for deciding how much of it may come."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError

from apps.authentication.services.credentials import credentials_get
from apps.core.errors import ApplicationError

logger = logging.getLogger(__name__)


async def scope_signed_in(scope: MutableMapping[str, Any]) -> bool:
    """Whether the request carries a bearer token that is good now."""
    header = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
    scheme, _, token = header.decode("latin-1").strip().partition(" ")
    if scheme.lower() != "bearer":
        return False
    try:
        await sync_to_async(credentials_get)(token.strip())
    except ApplicationError:
        return False
    except DatabaseError as error:
        logger.warning("upload refused, database unavailable: %s", error)
        return False
    return True
