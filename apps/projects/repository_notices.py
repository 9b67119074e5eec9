"""What a repository lacks although it looks whole: files that are kept elsewhere, and repositories within it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from apps.projects.git import git_run, path_decode, path_display

NOTICE_KINDS = ("submodule", "lfs", "branch")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*oid sha256:[0-9a-f]{64}\n"
    rb"(?:[a-z0-9.-]+ [^\n]*\n)*"
)
_POINTER_BYTES = range(100, 400)
_CANDIDATES = 20_000
_NAMED = 5


@dataclass(frozen=True)
class Notice:
    kind: Literal["submodule", "lfs", "branch"]
    #: The file, folder or branch that it is about.
    path: str
    message: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def lfs_notices(*, git_dir: Path, commit: str) -> list[Notice]:
    """Tells of the files that stand in the commit as pointers of Git LFS alone."""
    found = lfs_pointers(git_dir=git_dir, commit=commit)
    if not found:
        return []
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    files = "1 file is" if len(found) == 1 else f"{len(found)} files are"
    message = (
        f"{files} kept in Git LFS, which is not fetched: the pointers stand in their place "
        f"({', '.join(found[:_NAMED])}{more}). What reads their content won't find it."
    )
    return [Notice("lfs", found[0], message)]


def lfs_pointers(*, git_dir: Path, commit: str) -> list[str]:
    """Paths of the commit's files that are pointers of Git LFS."""
    listing = git_run("ls-tree", "-r", "-l", "-z", "--full-tree", commit, git_dir=git_dir).stdout
    candidates: list[tuple[str, bytes]] = []
    for entry in filter(None, listing.split(b"\0")):
        described, raw_path = entry.split(b"\t", 1)
        mode, kind, sha, size = described.split()
        if kind == b"blob" and mode != b"120000" and int(size) in _POINTER_BYTES:
            candidates.append((path_display(path_decode(raw_path)), sha))
    candidates = candidates[:_CANDIDATES]
    if not candidates:
        return []
    wanted = b"".join(sha + b"\n" for _, sha in candidates)
    answer = git_run("cat-file", "--batch", "--buffer", git_dir=git_dir, stdin=wanted).stdout
    found, position = [], 0
    for path, _ in candidates:
        end = answer.index(b"\n", position)
        length = int(answer[position:end].split()[2])
        if _POINTER.fullmatch(answer[end + 1 : end + 1 + length]):
            found.append(path)
        position = end + 1 + length + 1
    return found
