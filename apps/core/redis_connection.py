"""The process's connection to Redis, for what must be atomic across processes: counters, tickets, presence."""

from __future__ import annotations

from functools import cache

import redis
from django.conf import settings

PREFIX = "archon:"


@cache
def redis_client() -> redis.Redis:
    """A client that any thread may use; an absent server is noticed within two seconds."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
