"""What differs between two commits, for people and programs to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apps.projects.git import git_run, path_decode, path_display

ChangeStatus = Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]
_STATUSES: dict[str, ChangeStatus] = {
    "A": "added",
    "M": "modified",
    "D": "deleted",
    "R": "renamed",
    "C": "copied",
    "T": "type_changed",
}


@dataclass(frozen=True)
class FileChange:
    path: str
    status: ChangeStatus
    #: Lines; None for binary files.
    additions: int | None
    deletions: int | None
    #: Where a renamed or copied file came from.
    previous_path: str = ""


@dataclass(frozen=True)
class Diff:
    #: Unified, with bytes that are not UTF-8 replaced; whole lines, at most the bytes asked for.
    text: str
    files: tuple[FileChange, ...]
    truncated: bool


def trees_compare(*, git_dir: Path, base: str, head: str, max_bytes: int = 1_000_000) -> Diff:
    """What changed from one commit to another; the text is cut after ``max_bytes``, the list of files never."""
    range_arguments = ("--no-ext-diff", "--no-textconv", "--no-color", "-M", "--submodule=short")
    patch = git_run(
        "diff-tree", "-r", "-p", "--src-prefix=a/", "--dst-prefix=b/", *range_arguments, base, head,
        git_dir=git_dir, max_output=max_bytes, cut_output=True,
    )  # fmt: skip
    raw = patch.stdout
    if patch.truncated:
        raw = raw[: raw.rfind(b"\n") + 1]
    return Diff(raw.decode("utf-8", "replace"), changes_read(git_dir=git_dir, base=base, head=head), patch.truncated)


def patch_write(*, git_dir: Path, base: str, head: str, target: Path) -> None:
    """All that changed, binary files included, as ``git apply`` takes it."""
    git_run(
        "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff",
        "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", f"--output={target}", base, head,
        git_dir=git_dir, timeout=300,
    )  # fmt: skip


def changes_read(*, git_dir: Path, base: str, head: str) -> tuple[FileChange, ...]:
    """The files that differ between two commits or trees, by path."""
    output = git_run(
        "diff-tree", "-r", "-z", "-M", "--raw", "--numstat", "--no-ext-diff", "--no-textconv", base, head,
        git_dir=git_dir,
    ).stdout  # fmt: skip
    fields = iter(output.split(b"\0"))
    statuses: dict[bytes, tuple[ChangeStatus, bytes]] = {}
    counts: dict[bytes, tuple[int | None, int | None]] = {}
    for field in fields:
        if field.startswith(b":"):
            letter = field.rsplit(b" ", 1)[1][:1].decode()
            first = next(fields)
            second = next(fields) if letter in "RC" else b""
            statuses[second or first] = (_STATUSES.get(letter, "modified"), first if second else b"")
        elif field:
            added, deleted, path = field.split(b"\t", 2)
            if not path:
                next(fields)
                path = next(fields)
            counts[path] = (_count(added), _count(deleted))
    return tuple(
        FileChange(
            path_display(path_decode(path)), status, *counts.get(path, (0, 0)), path_display(path_decode(previous))
        )
        for path, (status, previous) in sorted(statuses.items())
    )


def _count(field: bytes) -> int | None:
    return None if field == b"-" else int(field)
