"""Making secrets, and the form in which they are stored."""

from __future__ import annotations

import hashlib
import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def secret_make(length: int) -> str:
    """Random letters and digits, about 5.95 bits each."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def secret_hash(secret: str) -> str:
    """SHA-256 in hexadecimal: enough for secrets that are random, unlike passwords."""
    return hashlib.sha256(secret.encode()).hexdigest()
