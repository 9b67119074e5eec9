"""The one way in for whoever holds a bearer token or a WebSocket ticket."""

from __future__ import annotations

import json
import uuid
from typing import Literal

import redis
from django.db.models import Q
from django.utils import timezone

from apps.authentication.models import ApiKey, TokenFamily, User
from apps.authentication.secret import secret_hash, secret_make
from apps.authentication.services.api_keys import PREFIX as API_KEY_PREFIX
from apps.authentication.services.api_keys import api_key_credentials_get
from apps.authentication.services.tokens import token_credentials_get
from apps.authentication.types import Credentials
from apps.core.errors import NotAuthenticated, Unavailable
from integrations.cache.connection import redis_client
from integrations.cache.keys import PREFIX

#: How long a ticket may wait to be used, in seconds.
TICKET_SECONDS = 30


class TicketInvalid(NotAuthenticated):
    """The ticket is unknown, was used or has expired."""

    code = "ticket_invalid"


def credentials_get(token: str) -> Credentials:
    """Who holds this access token or API key. Raises NotAuthenticated."""
    if token.startswith(API_KEY_PREFIX):
        return api_key_credentials_get(value=token)
    return token_credentials_get(access=token)


def token_authenticate(token: str) -> User:
    """The user of this access token or API key. Raises NotAuthenticated."""
    return credentials_get(token).user


def ticket_create(*, credentials: Credentials) -> str:
    """A ticket that opens one WebSocket within 30 seconds, for clients that can send no header.

    Raises Unavailable while Redis is away.
    """
    ticket = secret_make(40)
    value = json.dumps({"kind": credentials.kind, "source": str(credentials.source_id)})
    try:
        redis_client().set(_ticket_key(ticket), value, ex=TICKET_SECONDS)
    except (redis.RedisError, OSError) as error:
        raise Unavailable(
            "No ticket can be made while Redis is away.", next_step="authenticate by the first frame instead"
        ) from error
    return ticket


def ticket_credentials_get(ticket: str) -> Credentials:
    """Who holds this ticket, which is used up by asking. Raises TicketInvalid, or Unavailable while Redis is away."""
    try:
        value = redis_client().getdel(_ticket_key(ticket))
    except (redis.RedisError, OSError) as error:
        raise Unavailable("No ticket can be read while Redis is away.", next_step="try again shortly") from error
    if isinstance(value, bytes):
        stored = json.loads(value)
        user = _user_of(stored["kind"], uuid.UUID(stored["source"]))
        if user is not None:
            return Credentials(user=user, kind=stored["kind"], source_id=uuid.UUID(stored["source"]))
    raise TicketInvalid("The ticket is not valid (any more).", next_step="get a new one from /api/auth/tickets/")


def ticket_redeem(ticket: str) -> User:
    """The user of this ticket, which is used up by asking. Raises TicketInvalid."""
    return ticket_credentials_get(ticket).user


def credentials_valid(credentials: Credentials) -> bool:
    """Whether they still hold: not signed out, revoked, expired or deactivated since. For connections that last."""
    return _user_of(credentials.kind, credentials.source_id) is not None


def _user_of(kind: Literal["session", "api_key"], source_id: uuid.UUID) -> User | None:
    now = timezone.now()
    source: TokenFamily | ApiKey | None
    if kind == "session":
        source = (
            TokenFamily.objects.select_related("user")
            .filter(id=source_id, revoked_at=None, expires_at__gt=now, user__is_active=True)
            .first()
        )
    else:
        source = (
            ApiKey.objects.select_related("user")
            .filter(Q(expires_at=None) | Q(expires_at__gt=now), id=source_id, user__is_active=True)
            .first()
        )
    return source.user if source is not None else None


def _ticket_key(ticket: str) -> str:
    return f"{PREFIX}ticket:{secret_hash(ticket)}"
