"""Counting attempts: at most so many in so many seconds, over all processes."""

from __future__ import annotations

import hashlib
import logging
import threading
import time

import redis

from apps.core.errors import LimitReached
from apps.core.redis_connection import PREFIX, redis_client

logger = logging.getLogger(__name__)

#: While Redis is away each process counts for itself: a limit then holds per process, never not at all.
_local: dict[str, tuple[int, float]] = {}
_local_lock = threading.Lock()
_LOCAL_SIZE = 10_000


def rate_limit_take(*, name: str, subject: str, limit: int, seconds: int) -> None:
    """Count one attempt of the subject; the one after ``limit`` within ``seconds`` is refused.

    The subject (an address, an e-mail) is stored hashed. Raises LimitReached with ``retry_after``.
    """
    key = _key(name, subject)
    try:
        with redis_client().pipeline(transaction=True) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, seconds, nx=True)
            pipeline.ttl(key)
            count, _, remaining = pipeline.execute()
    except (redis.RedisError, OSError) as error:
        logger.warning("rate limit %s is counted in this process alone: %s", name, error)
        count, remaining = _local_take(key, seconds)
    if count > limit:
        remaining = max(1, remaining)
        raise LimitReached(
            "Too many attempts.", next_step=f"wait {remaining} seconds and try again", retry_after=remaining
        )


def rate_limit_clear(*, name: str, subject: str) -> None:
    """Forget the subject's attempts, as after one that succeeded."""
    key = _key(name, subject)
    with _local_lock:
        _local.pop(key, None)
    try:
        redis_client().delete(key)
    except (redis.RedisError, OSError) as error:
        logger.warning("rate limit %s not cleared: %s", name, error)


def _key(name: str, subject: str) -> str:
    return f"{PREFIX}limit:{name}:{hashlib.sha256(subject.encode(errors='surrogatepass')).hexdigest()[:32]}"


def _local_take(key: str, seconds: int) -> tuple[int, int]:
    now = time.monotonic()
    with _local_lock:
        if len(_local) >= _LOCAL_SIZE:
            for old in [name for name, (_, ends) in _local.items() if ends <= now] or list(_local):
                del _local[old]
        count, ends = _local.get(key, (0, 0.0))
        if ends <= now:
            count, ends = 0, now + seconds
        _local[key] = (count + 1, ends)
    return count + 1, int(ends - now) + 1
