"""Limits on attempts: at most so many in so many seconds, over all processes."""

from __future__ import annotations

from apps.core.errors import LimitReached
from integrations.cache.counters import counter_clear, counter_take
from integrations.cache.keys import digest, key_name


def rate_limit_take(*, name: str, subject: str, limit: int, seconds: int) -> None:
    """Count one attempt of the subject; the one after ``limit`` within ``seconds`` is refused.

    The subject (an address, an e-mail) is stored hashed. Raises LimitReached with ``retry_after``.
    """
    count, remaining = counter_take(_key(name, subject), seconds=seconds)
    if count > limit:
        remaining = max(1, remaining)
        raise LimitReached(
            "Too many attempts.", next_step=f"wait {remaining} seconds and try again", retry_after=remaining
        )


def rate_limit_clear(*, name: str, subject: str) -> None:
    """Forget the subject's attempts, as after one that succeeded."""
    counter_clear(_key(name, subject))


def _key(name: str, subject: str) -> str:
    return key_name("limit", name, digest(subject))
