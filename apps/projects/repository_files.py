"""Files of a commit, read from the server's repository: what an agent did to its checkout plays no part."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from apps.projects.git import git_run, path_decode
from apps.projects.repository import repository_path

_LINK = "120000"
_LINK_HOPS = 5
_LINK_LENGTH = 4096


@dataclass(frozen=True)
class _Entry:
    mode: str
    object_id: str
    size: int


class CommitFiles:
    """Files of one commit that were chosen by their paths, and whatever they link to."""

    def __init__(self, *, project_id: object, commit: str) -> None:
        """Reads the commit's list of files, which takes a while for a large one."""
        self._git_dir: Path = repository_path(project_id=project_id)
        listing = git_run("ls-tree", "-r", "-l", "-z", "--full-tree", commit, git_dir=self._git_dir).stdout
        self._entries: dict[str, _Entry] = {}
        for line in listing.split(b"\0"):
            if line:
                facts, _, name = line.partition(b"\t")
                mode, kind, object_id, size = facts.decode().split()
                if kind == "blob":
                    self._entries[path_decode(name)] = _Entry(mode, object_id, int(size))

    def paths(self, chosen: Callable[[str], bool]) -> list[str]:
        return sorted(path for path in self._entries if chosen(path))

    def real_path(self, path: str) -> str | None:
        """The file that the path leads to, through links that stay within the repository; None where there is none."""
        for _ in range(_LINK_HOPS):
            entry = self._entries.get(path)
            if entry is None:
                return None
            if entry.mode != _LINK:
                return path
            if entry.size > _LINK_LENGTH:
                return None
            target = path_decode(self._content(entry, _LINK_LENGTH))
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if target.startswith("/") or path.startswith("../"):
                return None
        return None

    def read(self, path: str, *, limit: int) -> tuple[str, bool] | None:
        """The text, and whether it was cut at ``limit`` bytes; None for what isn't there or isn't text."""
        real = self.real_path(path)
        if real is None:
            return None
        entry = self._entries[real]
        content = self._content(entry, limit)
        if b"\0" in content:
            return None
        return content.decode("utf-8", "replace"), entry.size > limit

    def _content(self, entry: _Entry, limit: int) -> bytes:
        shown = git_run(
            "cat-file", "blob", entry.object_id, git_dir=self._git_dir, max_output=limit, cut_output=True
        )  # fmt: skip
        return shown.stdout[:limit]
