"""What stands between a request and a model's reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from apps.core.errors import InvalidInput, LimitReached, Unavailable
from integrations.llm_providers.errors import ModelNotConfigured, ProviderError
from integrations.llm_providers.types import CallFailure, FailureKind, ModelSpec

from .types import LimitName

_UNITS: dict[LimitName, str] = {"cost_usd": "US dollars", "tokens": "tokens", "steps": "model calls"}


class ModelNotAvailable(Unavailable):
    """No model can be called, because none is configured."""

    code = "model_not_configured"


class ModelRefused(InvalidInput):
    """The model's name or address cannot be used."""

    code = "model_refused"


def provider_error_translate(
    error: ProviderError, *, prefix: str = "", **extra: Any
) -> ModelNotAvailable | ModelRefused:
    """What a caller hears of it."""
    kind = ModelNotAvailable if isinstance(error, ModelNotConfigured) else ModelRefused
    return kind(prefix + error.message, next_step=error.next_step, **extra)


class BudgetExceeded(LimitReached):
    """The next call could pass a limit, so it is not made."""

    code = "budget_exceeded"

    def __init__(self, *, limit: LimitName, maximum: Any, spent: Any, reserved: Any, needed: Any) -> None:
        held = f" and {reserved} are held for calls under way" if reserved else ""
        super().__init__(
            f"the limit of {maximum} {_UNITS[limit]} is reached: {spent} are spent{held}, and the next call needs "
            f"up to {needed}",
            next_step=f"Raise the session's limit of {limit} and resume it, or start one with a higher limit.",
            limit=limit,
            maximum=str(maximum),
            spent=str(spent),
            reserved=str(reserved),
            needed=str(needed),
        )
        self.limit = limit


class ModelCallFailed(Unavailable):
    """The model did not answer; tried again as often as made sense."""

    code: ClassVar[str] = "model_call_failed"

    def __init__(self, failure: CallFailure, *, of: Sequence[tuple[ModelSpec, CallFailure]] = ()) -> None:
        super().__init__(failure.message, next_step=failure.next_step, kind=failure.kind)
        self.failure = failure
        #: What each of the models that were asked said, in order.
        self.of = tuple(of)

    @property
    def kind(self) -> FailureKind:
        return self.failure.kind

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.failure.retryable

    @property
    def retry_after(self) -> float | None:
        """Seconds that the endpoint asked to wait."""
        return self.failure.retry_after
