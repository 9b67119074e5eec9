"""What a caller proved to be."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from apps.authentication.models import User

T = TypeVar("T")


@dataclass(frozen=True)
class Credentials:
    """A user, and by what they are known: a sign-in (``session``) or an API key; ``source_id`` is the row behind it."""

    user: User
    kind: Literal["session", "api_key"]
    source_id: uuid.UUID


@dataclass(frozen=True)
class TokenPair:
    """What a sign-in hands out; both are JWTs."""

    access: str
    refresh: str
    user: User


@dataclass(frozen=True)
class Secret(Generic[T]):
    """A row and the secret that it stores only as a hash; the one chance to show it."""

    row: T
    value: str
