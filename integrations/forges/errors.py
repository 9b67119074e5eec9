"""What a forge can answer instead of what was asked for."""

from __future__ import annotations

from typing import Literal

ErrorKind = Literal[
    "unreachable",
    "unauthorized",
    "forbidden",
    "not_found",
    "invalid",
    "nothing_new",
    "exists",
    "no_drafts",
    "archived",
    "moved",
    "rate_limited",
    "failing",
    "bad_response",
]


class ForgeError(Exception):
    """``said`` is what the forge itself said, without the token; ``retry_after`` are seconds that it asked to wait."""

    def __init__(self, kind: ErrorKind, said: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(f"{kind}: {said}")
        self.kind = kind
        self.said = said
        self.status = status
        self.retry_after = retry_after
