"""What the app says to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.core.errors import ApplicationError, Conflict


class LeaseLost(Exception):
    """Somebody else holds the index now, or the job is over: whoever meets this stops."""


class IndexMissing(Conflict):
    """There is nothing to search yet."""

    code = "not_indexed"


class IndexGivenUp(ApplicationError):
    """The job was taken up too often, and never came to an end."""

    code = "given_up"


@dataclass(frozen=True)
class Lease:
    """The right to write to an index, as long as its fence is the last one."""

    index_id: int
    fence: int


@dataclass(frozen=True)
class View:
    """What a search looks at: one generation of the tree, and a session's overlay on it."""

    index_id: int
    generation: int
    overlay_id: int | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {"index": self.index_id, "generation": self.generation, "overlay": self.overlay_id}
