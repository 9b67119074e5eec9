"""What can go wrong on the way to a model. Callers translate these into errors of their own."""

from __future__ import annotations

from .types import CallFailure


class ProviderError(Exception):
    """A model cannot be used as asked; ``next_step`` says what to do about it."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


class ModelNameInvalid(ProviderError):
    """The name is not ``PROVIDER:MODEL``, or names a provider that there is no adapter for."""


class ModelNotConfigured(ProviderError):
    """No model was named, or the one that was named has no key."""


class BaseUrlNotAllowed(ProviderError):
    """The operator has not allowed this endpoint."""


class RecordingInvalid(ProviderError):
    """The file of a recorded dialogue is missing, outside the allowed folders, or malformed."""


class RecordingMissing(ProviderError):
    """A recorded dialogue has no entry for this request."""


class ModelCallError(ProviderError):
    """A call went out and did not come back with an answer; ``failure`` says how."""

    def __init__(self, failure: CallFailure) -> None:
        super().__init__(failure.message, next_step=failure.next_step)
        self.failure = failure
