"""Counting within a span of time, over all processes."""

from __future__ import annotations

import logging
import threading
import time

import redis

from .connection import redis_client

logger = logging.getLogger(__name__)

#: While Redis is away each process counts for itself: a limit then holds per process, never not at all.
_local: dict[str, tuple[int, float]] = {}
_local_lock = threading.Lock()
_LOCAL_SIZE = 10_000


def counter_take(key: str, *, seconds: int) -> tuple[int, int]:
    """Count one: how many it are now, and the seconds until counting begins anew."""
    try:
        with redis_client().pipeline(transaction=True) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, seconds, nx=True)
            pipeline.ttl(key)
            count, _, remaining = pipeline.execute()
    except (redis.RedisError, OSError) as error:
        logger.warning("%s is counted in this process alone: %s", key.rpartition(":")[0], error)
        return _local_take(key, seconds)
    return int(count), int(remaining)


def counter_clear(key: str) -> None:
    """Begin anew."""
    with _local_lock:
        _local.pop(key, None)
    try:
        redis_client().delete(key)
    except (redis.RedisError, OSError) as error:
        logger.warning("%s is not cleared: %s", key.rpartition(":")[0], error)


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
