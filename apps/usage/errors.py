"""What stands between a request and a model's reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from apps.core.errors import InvalidInput, LimitReached, Unavailable
from integrations.llm_providers.errors import ModelNotConfigured, ProviderError
from integrations.llm_providers.types import CallFailure, FailureKind, ModelSpec

from .types import LimitName, Period, Scope

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

    def __init__(
        self,
        *,
        limit: LimitName,
        maximum: Any,
        spent: Any,
        reserved: Any,
        needed: Any,
        scope: Scope = "session",
        period: Period = "total",
        owner: str = "",
    ) -> None:
        held = f" and {reserved} are held for calls under way" if reserved else ""
        whose = "" if scope == "session" else f"{scope}'s "
        daily = " a day" if period == "day" else ""
        super().__init__(
            f"the {whose}limit of {maximum} {_UNITS[limit]}{daily} is reached: {spent} are spent{held}, and the next "
            f"call needs up to {needed}",
            next_step=_next_step(limit, scope, period, owner),
            scope=scope,
            period=period,
            owner=owner,
            limit=limit,
            maximum=str(maximum),
            spent=str(spent),
            reserved=str(reserved),
            needed=str(needed),
        )
        self.limit = limit
        self.scope = scope
        self.period = period


def _next_step(limit: LimitName, scope: Scope, period: Period, owner: str) -> str:
    if scope == "session":
        return f"Raise the session's limit of {limit} and resume it, or start one with a higher limit."
    option = f"--{'day-' if period == 'day' else ''}{limit.replace('_', '-')}"
    who = "An owner of the project" if scope == "project" else "An administrator"
    raised = f"{who} can raise it (./archon limits set --{scope} {owner} {option} AMOUNT); then resume the session."
    if period == "day":
        return f"{raised} Or resume it after midnight UTC, when the next day begins."
    return raised


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
