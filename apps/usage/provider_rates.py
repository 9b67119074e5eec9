"""How fast a provider may be asked: the operator's limits a minute, and the rest that a provider asks for.

Both are kept for all workers together, for one key at one address: that is what providers count by.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.conf import settings

from apps.core.cancellation import uninterrupted
from integrations.cache.buckets import Draw, TokenBuckets
from integrations.cache.keys import digest, key_name
from integrations.llm_providers.types import CallFailure, ModelSpec

from .errors import ModelCallFailed
from .types import Usage

logger = logging.getLogger(__name__)

#: A call waits this long for its turn within the operator's limits, and then fails.
PATIENCE_SECONDS = 600.0
#: A provider that asks for a longer rest is asked again after this one.
LONGEST_COOLDOWN_SECONDS = 900.0
#: Who waited for the end of a cooldown doesn't ask at the same moment as all the others: up to so much later.
SPREAD = 0.1


@dataclass(frozen=True)
class ProviderLimit:
    """Requests and tokens a minute; None: no limit."""

    requests: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Admission:
    """A call may be made; what was counted for it."""

    cooldown: str = ""
    tokens: Draw | None = None


def provider_limit_find(
    spec: ModelSpec, limits: Mapping[str, tuple[int | None, int | None]]
) -> tuple[str, ProviderLimit]:
    """The first whose name is the provider's or matches the model's, with that name; empty where none does."""
    for name, (requests, tokens) in limits.items():
        if name == spec.provider or (":" in name and fnmatch.fnmatchcase(spec.name, name)):
            return name, ProviderLimit(requests, tokens)
    return "", ProviderLimit()


class ProviderRates:
    """Lets calls through at the rate that was agreed. Belongs to one event loop; close it with it."""

    def __init__(self, *, max_cooldown_s: float) -> None:
        self._buckets = TokenBuckets()
        #: A call waits this long for the end of a cooldown, and fails at once where more is left of it.
        self._max_cooldown_s = max_cooldown_s

    async def close(self) -> None:
        await self._buckets.close()

    async def admit(self, spec: ModelSpec, *, tokens: Callable[[], int]) -> Admission:
        """Wait for the turn of a call of about so many tokens (counted only where they matter).

        Models that are not reached over HTTP have no rate. Raises :class:`ModelCallFailed` if it takes too long.
        """
        if not spec.base_url:
            return Admission()
        account = digest(spec.base_url, spec.api_key.reveal())
        cooldown = key_name("cooldown", spec.name, account)
        name, limit = provider_limit_find(spec, settings.ARCHON_PROVIDER_LIMITS)
        draws = []
        if limit.requests is not None:
            draws.append(Draw(key_name("rate", name, account, "requests"), 1, limit.requests))
        spent = None
        if limit.tokens is not None:
            spent = Draw(key_name("rate", name, account, "tokens"), tokens(), limit.tokens)
            draws.append(spent)
        while True:
            taken = await self._buckets.take(cooldown=cooldown, draws=draws, patience_s=PATIENCE_SECONDS)
            if taken.cooling_s > self._max_cooldown_s:
                if taken.ok:
                    await self._give_back(cooldown, draws)
                raise ModelCallFailed(_cooling(spec, taken.cooling_s))
            if not taken.ok:
                raise ModelCallFailed(_crowded(spec, name, taken.wait_s))
            if taken.wait_s <= 0:
                return Admission(cooldown, spent)
            if not taken.cooling_s:
                logger.info("model %s waits %.1f s for its turn (ARCHON_PROVIDER_LIMITS)", spec.name, taken.wait_s)
            try:
                await asyncio.sleep(taken.wait_s * random.uniform(1.0, 1.0 + SPREAD))
            except asyncio.CancelledError:
                await uninterrupted(self._give_back(cooldown, draws))
                raise
            # Its turn has come. In the meantime somebody may have been told to rest.
            draws = []

    async def settle(self, spec: ModelSpec, admission: Admission, usage: Usage) -> None:
        """Count the tokens that it took in the place of those that were assumed."""
        assumed = admission.tokens
        if assumed is None:
            return
        more = usage.input_tokens + usage.output_tokens - min(assumed.amount, assumed.per_minute)
        if more:
            draw = Draw(assumed.key, more, assumed.per_minute)
            # It has happened, so it is never too much.
            await self._buckets.take(cooldown=admission.cooldown, draws=[draw], patience_s=float("inf"))

    async def cool(self, spec: ModelSpec, failure: CallFailure, wait_s: float | None) -> None:
        """After a call that was refused for its rate: have all workers wait as long as the provider asks, or we do."""
        if failure.kind != "rate_limited" or not spec.base_url:
            return
        seconds = failure.retry_after if failure.retry_after is not None else wait_s or 0.0
        cooldown = key_name("cooldown", spec.name, digest(spec.base_url, spec.api_key.reveal()))
        await self._buckets.cool(cooldown=cooldown, seconds=min(seconds, LONGEST_COOLDOWN_SECONDS))

    async def _give_back(self, cooldown: str, draws: list[Draw]) -> None:
        back = [Draw(draw.key, -min(draw.amount, draw.per_minute), draw.per_minute) for draw in draws]
        await self._buckets.take(cooldown=cooldown, draws=back, patience_s=float("inf"))


def _cooling(spec: ModelSpec, seconds: float) -> CallFailure:
    return CallFailure(
        kind="rate_limited",
        message=f"{spec.base_url} limits the rate, and has asked to be left alone for another {seconds:.0f} s",
        next_step="Wait, and resume.",
        retryable=True,
        retry_after=seconds,
    )


def _crowded(spec: ModelSpec, name: str, seconds: float) -> CallFailure:
    return CallFailure(
        kind="rate_limited",
        message=f"the server's own limit of {name} (ARCHON_PROVIDER_LIMITS) has so many calls waiting that this one's"
        f" turn would come in {seconds:.0f} s",
        next_step="Wait, and resume; or have an administrator raise the limit, or choose another model.",
        retryable=True,
        retry_after=seconds,
    )
