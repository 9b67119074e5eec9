"""Paths as a plan names them: relative to the repository's root, with forward slashes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

#: Where a worktree stands in every sandbox (``apps.projects.workspace``): models give such paths now and then.
_WORKSPACE = "/workspace/"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SEPARATORS = re.compile(r"[\\/]")


def path_clean(path: str) -> str:
    """The path as the repository has it: without ``./``, doubled slashes and one at the end; ``.`` is the root."""
    return posixpath.normpath(path.strip()) if path.strip() else path


def folders_above(path: str) -> Iterator[str]:
    """The folders that a path is in, the nearest first; without the root."""
    while path := path.rpartition("/")[0]:
        yield path


def path_fault(path: str) -> tuple[str, str] | None:
    """Why a path can't be one of a repository's, and what to do about it; None: it may be."""
    if not path.strip():
        return "is blank", "leave it out"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return "has a character that can't be seen", "write it without"
    if path.startswith(_WORKSPACE):
        return "is absolute", f"write {path_clean(path.removeprefix(_WORKSPACE))}"
    if path.startswith(("/", "~/", "\\")) or path == "~" or _DRIVE.match(path):
        return "is absolute", "give paths relative to the repository's root"
    parts = [part for part in _SEPARATORS.split(path) if part not in ("", ".")]
    if ".." in parts:
        cleaned = path_clean(path.replace("\\", "/"))
        if cleaned == ".." or cleaned.startswith("../"):
            return "leads out of the repository", "name files of the repository alone"
        return "has .. in it", f"write {cleaned}"
    if any(part.lower() == ".git" for part in parts):
        return "is git's own", "leave it out: no task may touch it"
    return None
