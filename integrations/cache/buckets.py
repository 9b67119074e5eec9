"""Token buckets that all processes draw from, and cooldowns that all of them keep.

A bucket holds what may be taken in a minute and fills up evenly. Who takes more than is there is told how long to wait,
and has it then: takers are served in their order, and nobody asks twice. While Redis is away each process keeps buckets
of its own, which is said in the log once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis
import redis.asyncio

from .connection import redis_async

logger = logging.getLogger(__name__)

#: How long Redis is left alone once it did not answer.
REST_SECONDS = 5.0
_LOCAL_SIZE = 10_000

# KEYS: the cooldown, the buckets. ARGV: patience in seconds, then of each bucket what is taken and what flows in within
# a minute. A negative amount gives back, and is never refused.
_TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local wait = math.max(0, redis.call('PTTL', KEYS[1])) / 1000
local cooling = wait
local levels = {}
for i = 2, #KEYS do
  local amount, rate = tonumber(ARGV[2 * i - 2]), tonumber(ARGV[2 * i - 1])
  local state = redis.call('HMGET', KEYS[i], 'level', 'at')
  local level, at = tonumber(state[1]) or rate, tonumber(state[2]) or now
  level = math.min(rate, level + math.max(0, now - at) * rate / 60)
  level = math.min(rate, level - math.min(amount, rate))
  wait = math.max(wait, -level * 60 / rate)
  levels[i] = level
end
local taken = wait <= tonumber(ARGV[1]) and 1 or 0
if taken == 1 then
  for i = 2, #KEYS do
    local rate = tonumber(ARGV[2 * i - 1])
    redis.call('HSET', KEYS[i], 'level', tostring(levels[i]), 'at', tostring(now))
    redis.call('EXPIRE', KEYS[i], math.ceil((rate - levels[i]) * 60 / rate) + 1)
  end
end
return {taken, tostring(wait), tostring(cooling)}
"""
_COOL = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
"""


@dataclass(frozen=True)
class Draw:
    """What is taken from one bucket, and what may be taken from it within a minute."""

    key: str
    amount: float
    per_minute: float


@dataclass(frozen=True)
class Taken:
    """``ok``: it is taken, to be used after ``wait_s``. Otherwise nothing is, since that would be too long."""

    ok: bool
    wait_s: float
    #: What of that is a cooldown.
    cooling_s: float


class TokenBuckets:
    """Belongs to one event loop; close it with it."""

    def __init__(self) -> None:
        self._redis: redis.asyncio.Redis = redis_async()
        self._take = self._redis.register_script(_TAKE)
        self._cool = self._redis.register_script(_COOL)
        self._local = _LocalBuckets()
        self._away_until = 0.0
        self._is_away = False

    async def close(self) -> None:
        await self._redis.aclose()

    async def take(self, *, cooldown: str, draws: Sequence[Draw] = (), patience_s: float) -> Taken:
        """Take from all of the buckets or, if that means to wait for longer than this, from none."""
        arguments: list[float] = [patience_s]
        for draw in draws:
            arguments += [draw.amount, draw.per_minute]
        if self._is_asked():
            try:
                taken, wait, cooling = await self._take(keys=[cooldown, *(draw.key for draw in draws)], args=arguments)
            except (redis.RedisError, OSError) as error:
                self._went_away(error)
            else:
                self._came_back()
                return Taken(bool(taken), max(0.0, float(wait)), max(0.0, float(cooling)))
        return self._local.take(cooldown, draws, patience_s)

    async def cool(self, *, cooldown: str, seconds: float) -> None:
        """Have everybody wait for so long; a longer wait stays."""
        self._local.cool(cooldown, seconds)
        if seconds > 0 and self._is_asked():
            try:
                await self._cool(keys=[cooldown], args=[max(1, int(seconds * 1000))])
            except (redis.RedisError, OSError) as error:
                self._went_away(error)
            else:
                self._came_back()

    def _is_asked(self) -> bool:
        return time.monotonic() >= self._away_until

    def _went_away(self, error: Exception) -> None:
        if not self._is_away:
            logger.warning("Redis is away: the rates of model providers are kept by this process alone: %s", error)
        self._is_away = True
        self._away_until = time.monotonic() + REST_SECONDS

    def _came_back(self) -> None:
        if self._is_away:
            logger.info("Redis is back: the rates of model providers are shared again")
        self._is_away = False


class _LocalBuckets:
    """The same for one process."""

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}
        self._cooldowns: dict[str, float] = {}

    def take(self, cooldown: str, draws: Sequence[Draw], patience_s: float) -> Taken:
        now = time.monotonic()
        cooling = max(0.0, self._cooldowns.get(cooldown, 0.0) - now)
        wait, levels = cooling, {}
        for draw in draws:
            level, at = self._levels.get(draw.key, (draw.per_minute, now))
            level = min(draw.per_minute, level + (now - at) * draw.per_minute / 60)
            level = min(draw.per_minute, level - min(draw.amount, draw.per_minute))
            wait = max(wait, -level * 60 / draw.per_minute)
            levels[draw.key] = (level, now)
        if wait > patience_s:
            return Taken(False, wait, cooling)
        if len(self._levels) >= _LOCAL_SIZE:
            self._levels.clear()
        self._levels.update(levels)
        return Taken(True, wait, cooling)

    def cool(self, cooldown: str, seconds: float) -> None:
        now = time.monotonic()
        if len(self._cooldowns) >= _LOCAL_SIZE:
            self._cooldowns = {name: until for name, until in self._cooldowns.items() if until > now}
        self._cooldowns[cooldown] = max(self._cooldowns.get(cooldown, 0.0), now + seconds)
