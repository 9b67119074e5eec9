"""Paths as rules see them: one form for all the ways to write one, with links followed."""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from apps.projects.workspace import SANDBOX_WORKSPACE

#: Entries that are looked at to tell whether a folder holds something.
ENTRIES = 20_000
#: Links that are followed in one path.
LINKS = 40
_PLAIN_BRACKETS = re.compile(r"\[\w+(?:-\w+)*\]")


class WorktreePaths:
    """Paths in a worktree. It belongs to an agent: what a link leads to now may be another thing a moment later."""

    def __init__(self, root: Path | None, *, commands_in: str = "") -> None:
        self._root = root
        #: The folder that command lines start in.
        self.commands_in = commands_in or "."

    def forms(self, text: str, *, folder: str = ".") -> tuple[str, ...]:
        """The path without `.` and `..`, relative to the worktree where it is in it, and what it comes to by links."""
        written = self._normal(posixpath.join(folder, text))
        if self._root is None:
            return (written,)
        return tuple(dict.fromkeys((written, self._followed(posixpath.join(folder, text)))))

    def globbed(self, pattern: str, *, folder: str = ".") -> tuple[str, ...] | None:
        """What a pattern of a shell comes to, in every form; None where that can't be told."""
        if self._root is None or any(character in pattern for character in "{}()~"):
            return None
        if "[" in _PLAIN_BRACKETS.sub("", pattern):
            # Bash knows more of brackets than glob does: classes, another sign for "not", quotes within.
            return None
        base = self._normal(posixpath.join(folder, "x"))
        if base.startswith("/") or pattern.startswith("/"):
            return None
        found: list[str] = []
        where = self._root / posixpath.dirname(base)
        try:
            for name in glob.iglob(pattern, root_dir=where, include_hidden=True):
                found += self.forms(name, folder=folder)
                if len(found) > ENTRIES:
                    return None
        except (OSError, ValueError):
            return None
        return tuple(found)

    def holds(self, folder: str, fits: Callable[[str], bool]) -> bool:
        """Whether something in the folder fits; also where there is too much in it to tell."""
        if self._root is None:
            return True
        path = self._normal(folder)
        if path.startswith("/"):
            return False
        seen = 0
        for where, folders, files in os.walk(self._root / path):
            inside = os.path.relpath(where, self._root)
            for name in [*folders, *files]:
                seen += 1
                if seen > ENTRIES or fits(posixpath.normpath(posixpath.join(inside, name))):
                    return True
        return False

    def exists(self, text: str, folders: Iterable[str | None]) -> bool:
        """Whether the path is there in each of the folders; what is outside of the worktree counts as there."""
        if self._root is None or text.startswith("-"):
            return False
        found = [self._normal(posixpath.join(folder or ".", text)) for folder in folders]
        return all(path.startswith("/") or os.path.lexists(self._root / path) for path in found)

    def _normal(self, text: str) -> str:
        whole = posixpath.normpath(posixpath.join(SANDBOX_WORKSPACE, text))
        whole = "/" + whole.lstrip("/")
        if whole == SANDBOX_WORKSPACE:
            return "."
        return whole.removeprefix(SANDBOX_WORKSPACE + "/") if whole.startswith(SANDBOX_WORKSPACE + "/") else whole

    def _followed(self, text: str) -> str:
        """Step by step, so that a `..` behind a link leads to where the kernel would take it."""
        assert self._root is not None
        rest = posixpath.join(SANDBOX_WORKSPACE, text).split("/")
        done = "/"
        links = 0
        while rest:
            name = rest.pop(0)
            if name in ("", "."):
                continue
            if name == "..":
                done = posixpath.dirname(done)
                continue
            step = posixpath.join(done, name)
            target = self._link(step)
            if target is None or links >= LINKS:
                done = step
                continue
            links += 1
            rest = target.split("/") + rest
            if target.startswith("/"):
                done = "/"
        return self._normal(done)

    def _link(self, path: str) -> str | None:
        if self._root is None or not path.startswith(SANDBOX_WORKSPACE + "/"):
            return None
        try:
            return os.readlink(self._root / path.removeprefix(SANDBOX_WORKSPACE + "/"))
        except (OSError, ValueError):
            return None
