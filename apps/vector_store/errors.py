"""What stands between a text and its vector, or between a question and the vectors that are near."""

from __future__ import annotations

from typing import Any, Literal

from apps.core.errors import InvalidInput, Unavailable

#: ``down``: not reached, or it fell silent. ``dimension``: it returns vectors of another length than was agreed.
EmbedFailure = Literal[
    "down", "dimension", "too_long", "rate_limited", "quota", "key_refused", "not_found", "bad_response", "crashed"
]


class EmbedderFailed(Unavailable):
    """The embedder made no vectors; tried again as often as made sense."""

    code = "embedder_failed"

    def __init__(
        self,
        message: str,
        *,
        kind: EmbedFailure,
        next_step: str,
        retryable: bool = False,
        retry_after: float | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(message, next_step=next_step, kind=kind, **extra)
        self.kind = kind
        #: Whether the same texts may succeed later.
        self.retryable = retryable
        #: Seconds that it asked to wait.
        self.retry_after = retry_after


class EmbedderNotConfigured(Unavailable):
    """The embedder has no key, no address, or its package is not installed."""

    code = "embedder_not_configured"


class EmbedderRefused(InvalidInput):
    """The embedder's name or address cannot be used."""

    code = "embedder_refused"


class VectorIndexUnavailable(Unavailable):
    """Vectors cannot be stored or searched here now."""

    code = "vector_index_unavailable"
