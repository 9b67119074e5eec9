"""What a patch says, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from apps.projects.workspace import WorkspaceError


class PatchError(WorkspaceError):
    """The patch cannot be read, or does not fit; the message says where, and what to do."""


@dataclass(frozen=True)
class Hunk:
    """Lines that take the place of others. Every line has its end, but for one that a diff says has none."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    #: For each line of ``new`` the line of ``old`` that it is; -1 for one that is added.
    kept: tuple[int, ...]
    #: Where the old lines are said to begin, counted from 1; 0: not said.
    line: int = 0
    #: Lines that are somewhere above, outermost first.
    anchors: tuple[str, ...] = ()
    #: The old lines are the last ones of the file.
    at_end: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        if self.line:
            return f"the hunk at line {self.line}"
        return f"the hunk after `@@ {self.anchors[-1]}`" if self.anchors else "the hunk"


@dataclass(frozen=True)
class FileChange:
    """What a patch does to one file."""

    path: str
    kind: Literal["update", "add", "delete"]
    hunks: tuple[Hunk, ...] = ()
    #: Where the file goes, besides.
    move_to: str = ""
    #: The patch says itself which lines have no end (unified diffs do).
    says_ends: bool = False
