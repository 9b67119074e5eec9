"""API keys: ``archon_`` and 40 random characters, usable wherever an access token is."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from apps.authentication.models import ApiKey, User
from apps.authentication.secret import secret_hash, secret_make
from apps.authentication.types import Credentials, Secret
from apps.core.errors import Conflict, InvalidInput, NotAuthenticated, NotFound

PREFIX = "archon_"
#: More than anybody needs; a bound on what one account can store.
KEYS_PER_USER = 100
_FORM = re.compile(r"archon_[A-Za-z0-9]{40}")
#: How exactly `last_used_at` is kept, so that not every request writes.
_LAST_USED_STEP = timedelta(minutes=1)


class ApiKeyInvalid(NotAuthenticated):
    """The API key is unknown, has expired or was revoked."""

    code = "api_key_invalid"


def api_key_create(*, user: User, name: str, expires_at: datetime | None = None) -> Secret[ApiKey]:
    """A new key of the user; its value is returned here and nowhere else."""
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput("The key would have expired already.", next_step="give an expires_at in the future")
    if ApiKey.objects.filter(user=user).count() >= KEYS_PER_USER:
        raise Conflict(f"You have {KEYS_PER_USER} API keys already.", next_step="delete those you no longer use")
    value = PREFIX + secret_make(40)
    key = ApiKey.objects.create(
        user=user, name=name, prefix=value[: len(PREFIX) + 6], key_hash=secret_hash(value), expires_at=expires_at
    )
    return Secret(key, value)


def api_key_credentials_get(*, value: str) -> Credentials:
    """Who holds this key; notes that it was used. Raises ApiKeyInvalid."""
    now = timezone.now()
    key = None
    if _FORM.fullmatch(value):
        key = (
            ApiKey.objects.select_related("user")
            .filter(key_hash=secret_hash(value), user__is_active=True)
            .filter(Q(expires_at=None) | Q(expires_at__gt=now))
            .first()
        )
    if key is None:
        raise ApiKeyInvalid("The API key is not valid.", next_step="make one at /api/auth/keys/")
    if key.last_used_at is None or now - key.last_used_at > _LAST_USED_STEP:
        ApiKey.objects.filter(id=key.id).update(last_used_at=now)
    return Credentials(user=key.user, kind="api_key", source_id=key.id)


def api_key_delete(*, user: User, key_id: uuid.UUID) -> None:
    """Revoke a key at once. Raises NotFound for another user's."""
    deleted, _ = ApiKey.objects.filter(id=key_id, user=user).delete()
    if not deleted:
        raise NotFound("There is no such API key.")
