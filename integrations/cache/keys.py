"""Names of keys in Redis."""

from __future__ import annotations

import hashlib

PREFIX = "archon:"


def key_name(*parts: str) -> str:
    """``archon:rate:openai:…``"""
    return PREFIX + ":".join(parts)


def digest(*parts: str) -> str:
    """Stands for what must not be read from a key: an address, a secret."""
    text = "\0".join(parts)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
