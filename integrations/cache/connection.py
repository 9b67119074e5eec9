"""The process's connections to Redis, for what must be atomic across processes: counters, tickets, presence."""

from __future__ import annotations

from functools import cache

import redis
import redis.asyncio
from django.conf import settings

#: An absent server is noticed within so many seconds.
TIMEOUT_SECONDS = 2


@cache
def redis_client() -> redis.Redis:
    """A client that any thread may use."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )


def redis_async() -> redis.asyncio.Redis:
    """A client of one event loop; to be closed by whoever asked for it."""
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
