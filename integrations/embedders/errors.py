"""What can go wrong on the way to a vector. Callers translate these into errors of their own."""

from __future__ import annotations

from typing import Literal

FailureKind = Literal[
    "down", "dimension", "too_long", "rate_limited", "quota", "key_refused", "not_found", "bad_response", "crashed"
]


class EmbedError(Exception):
    """No vectors came; ``next_step`` says what to do about it."""

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind,
        next_step: str = "",
        retryable: bool = False,
        retry_after: float | None = None,
        charged: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.next_step = next_step
        #: The same texts may succeed later.
        self.retryable = retryable
        #: Seconds that the endpoint asked to wait.
        self.retry_after = retry_after
        #: The endpoint may have worked, and charged, although no vector arrived.
        self.charged = charged


class EmbedderMissing(Exception):
    """A model on this machine lacks a package."""

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
