"""When a call that failed is made again, and of which model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from integrations.llm_providers.capabilities import context_tokens
from integrations.llm_providers.types import CallFailure, FailureKind, ModelSpec

from .errors import ModelCallFailed

#: Failures that are of one endpoint or model, so that another may do better.
_OF_ONE_MODEL: frozenset[FailureKind] = frozenset(
    {"auth", "not_found", "rate_limited", "quota", "overloaded", "timeout", "connection", "bad_response", "refused"}
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often one call is tried, and how long to wait between two tries (doubling, with jitter)."""

    attempts: int = 4
    #: A reply that is kept back costs what one that comes does, and seldom comes later.
    attempts_refused: int = 2
    base_s: float = 0.5
    max_s: float = 20.0
    #: An endpoint that asks for a longer wait than this gets none: the caller hears of it.
    max_retry_after_s: float = 60.0

    def wait(self, failure: CallFailure, tries: int) -> float | None:
        """Seconds until the next try; None: no more."""
        asked = failure.retry_after or 0.0
        attempts = min(self.attempts, self.attempts_refused) if failure.kind == "refused" else self.attempts
        if not failure.retryable or tries >= attempts or asked > self.max_retry_after_s:
            return None
        pause = min(self.max_s, self.base_s * 2.0 ** (tries - 1))
        return max(asked, pause * random.uniform(0.5, 1.0))


def next_model(failure: CallFailure, failed: ModelSpec, others: Sequence[ModelSpec]) -> int | None:
    """Which of the others can help, by its place; None: none of them."""
    if failure.kind in _OF_ONE_MODEL:
        return 0 if others else None
    if failure.kind == "context_too_long":
        room = context_tokens(failed)
        return next((place for place, spec in enumerate(others) if context_tokens(spec) > room), None)
    return None


def failure_of_all(failures: Sequence[tuple[ModelSpec, ModelCallFailed]]) -> ModelCallFailed:
    """One failure for several models: the one that may pass, if any may, with what the others said."""
    _, last = failures[-1]
    if len(failures) == 1:
        return last
    told = next((error for _, error in failures if error.retryable), last)
    others = "; ".join(f"{spec.name}: {error.message}" for spec, error in failures if error is not told)
    return ModelCallFailed(replace(told.failure, message=f"{told.message} (and the others failed too: {others})"))
