"""Which paths a commit has, read from the server's repository in one go and looked up as often as is liked."""

from __future__ import annotations

import posixpath
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from apps.projects.git import git_run, path_decode
from apps.projects.repository_store import repository_path

_LINK, _MODULE, _RUNS = "120000", "160000", "100755"
_LINK_HOPS = 5
_LINK_LENGTH = 4096
_SECONDS = 120.0


@dataclass(frozen=True)
class PathEntry:
    """What a path of the commit is. ``elsewhere``: a submodule, or what lies within one or behind a link outside."""

    kind: Literal["file", "folder", "elsewhere"]
    #: The path itself, links followed.
    path: str
    is_executable: bool = False


class CommitPaths:
    """The paths of one commit. Blocking: the first question reads the list. Raises GitError."""

    def __init__(self, *, project_id: object, commit: str) -> None:
        self._git_dir: Path = repository_path(project_id=project_id)
        self._commit = commit

    @cached_property
    def _entries(self) -> dict[str, tuple[str, str]]:
        """Mode and object by path."""
        listing = git_run(
            "ls-tree", "-r", "-z", "--full-tree", self._commit, git_dir=self._git_dir, timeout=_SECONDS,
            max_output=1 << 30,
        ).stdout  # fmt: skip
        entries = {}
        for line in listing.split(b"\0"):
            if line:
                facts, _, name = line.partition(b"\t")
                mode, _, object_id = facts.decode().split()
                entries[path_decode(name)] = (mode, object_id)
        return entries

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Every path but those of folders, sorted by git."""
        return tuple(self._entries)

    @cached_property
    def folders(self) -> frozenset[str]:
        found: set[str] = set()
        for path in self._entries:
            folder = posixpath.dirname(path)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return frozenset(found)

    @cached_property
    def _composed(self) -> dict[str, str]:
        """Names that aren't plain ASCII in the form in which they are typed: some systems store another one."""
        names = [path for path in (*self._entries, *self.folders) if not path.isascii()]
        return {unicodedata.normalize("NFC", path): path for path in names}

    def entry(self, path: str) -> PathEntry | None:
        """What a clean path leads to, links followed; None: nothing. Empty or ``.`` is the root."""
        for _ in range(_LINK_HOPS):
            if path in ("", "."):
                return PathEntry("folder", "")
            path = self._composed.get(unicodedata.normalize("NFC", path), path) if not path.isascii() else path
            if path in self.folders:
                return PathEntry("folder", path)
            first = self._first(path)
            if first is None:
                return None
            mode, object_id = self._entries[first]
            if mode == _MODULE:
                return PathEntry("elsewhere", path)
            if mode != _LINK:
                # What is below a file isn't there.
                return PathEntry("file", path, mode == _RUNS) if first == path else None
            target = self._target(object_id)
            path = posixpath.normpath(posixpath.join(posixpath.dirname(first), target, path[len(first) + 1 :]))
            if target.startswith("/") or path == ".." or path.startswith("../"):
                return PathEntry("elsewhere", first)
        return None

    def read(self, path: str, *, limit: int) -> str | None:
        """The text of a file, cut at ``limit`` bytes; None for what is none."""
        entry = self.entry(path)
        if entry is None or entry.kind != "file":
            return None
        _, object_id = self._entries[entry.path]
        content = git_run("cat-file", "blob", object_id, git_dir=self._git_dir, max_output=limit, cut_output=True)
        return content.stdout.decode("utf-8", "replace")

    def _first(self, path: str) -> str | None:
        """The path, or the one above it that is no folder: a file, a link or a submodule."""
        while path:
            if path in self._entries:
                return path
            path = posixpath.dirname(path)
        return None

    def _target(self, object_id: str) -> str:
        shown = git_run(
            "cat-file", "blob", object_id, git_dir=self._git_dir, max_output=_LINK_LENGTH, cut_output=True
        )  # fmt: skip
        return path_decode(shown.stdout)
