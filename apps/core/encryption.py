"""Secrets that users entrust to the server (keys of models, tokens of repositories): stored encrypted, never shown.

The key is ``ARCHON_ENCRYPTION_KEYS``, or follows from ``DJANGO_SECRET_KEY``. The first of several keys encrypts and all
of them decrypt, so that a key can be replaced: put the new one in front, and store anew what is under the old one.
"""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from apps.core.errors import Unavailable

#: What the derived key is for, so that it is no other one that may follow from the same secret.
_PURPOSE = b"archon stored secrets 1"


class SecretUnreadable(Unavailable):
    """A stored secret was encrypted under a key that the server no longer has."""

    code = "secret_unreadable"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} cannot be decrypted: it was stored under another encryption key",
            next_step="Store it again, or put the former key behind the present one in ARCHON_ENCRYPTION_KEYS.",
        )


def secret_encrypt(plain: str) -> str:
    """The secret as it may be stored: printable, authenticated, different each time."""
    return _cipher(_keys()).encrypt(plain.encode()).decode("ascii")


def secret_decrypt(stored: str, *, what: str) -> str:
    """The secret again. ``what`` names it in :class:`SecretUnreadable`."""
    try:
        return _cipher(_keys()).decrypt(stored.encode("ascii")).decode()
    except (InvalidToken, ValueError) as error:
        raise SecretUnreadable(what) from error


def _keys() -> tuple[str, ...]:
    return tuple(key for key in settings.ARCHON_ENCRYPTION_KEYS if key) or (settings.SECRET_KEY,)


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(_derive(key))) for key in keys])


def _derive(key: str) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_PURPOSE).derive(key.encode())
