"""One line of what the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    #: Not there, and Archon works without it.
    MISSING = "missing"
    #: Archon, or what was asked of it, doesn't work like this.
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """``detail`` and ``next_step`` are for people and hold no secret."""

    name: str
    state: State
    detail: str
    next_step: str = ""
