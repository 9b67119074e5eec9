"""The process's connections to Redis, for what must be atomic across processes: counters, tickets, presence."""

from __future__ import annotations

from functools import cache
from threading import Lock

import redis
import redis.asyncio
from django.conf import settings

#: An absent server is noticed within so many seconds.
TIMEOUT_SECONDS = 2


_making = Lock()


def redis_client() -> redis.Redis:
    """A client that any thread may use."""
    # Were two made at once, the one that loses would close its connections under whoever has begun to use them.
    with _making:
        return _redis_client()


def redis_client_forget() -> None:
    """Have the next client made anew, from the settings as they are then."""
    with _making:
        _redis_client.cache_clear()


@cache
def _redis_client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )


def redis_async() -> redis.asyncio.Redis:
    """A client of one event loop; to be closed by whoever asked for it."""
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
