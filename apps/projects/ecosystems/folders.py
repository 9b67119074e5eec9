"""Looking through a checkout for what kinds of projects are in it, without going where no project of its own is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_SKIPPED = {
    ".git", "node_modules", "vendor", "third_party", "target", "build", "dist", "out", "testdata", "fixtures", ".venv",
    "venv", "site-packages", "__pycache__", ".archon-build",
}  # fmt: skip
_MAX_DEPTH = 4
_MAX_FILES = 20_000
_MAX_TEXT = 1 << 20


def files_named(checkout: Path, name: re.Pattern[str], *, depth: int = _MAX_DEPTH, below: str = "") -> Iterator[str]:
    """Paths of files of that name, those higher up first within each folder; links are left out."""
    start = checkout / below
    seen = 0
    for folder, folders, files in os.walk(start):
        relative = Path(folder).relative_to(start)
        folders[:] = sorted(entry for entry in folders if entry not in _SKIPPED and not entry.startswith("."))
        if len(relative.parts) >= depth:
            folders.clear()
        for entry in sorted(files):
            seen += 1
            if seen > _MAX_FILES:
                return
            if name.fullmatch(entry) and not os.path.islink(os.path.join(folder, entry)):
                yield (PurePosixPath(below) / relative.as_posix() / entry).as_posix()


def folders_with(checkout: Path, name: re.Pattern[str], *, nested: bool = False) -> tuple[str, ...]:
    """Folders that hold a file of that name; without ``nested`` not those below another one. The checkout is ``""``."""
    found: list[str] = []
    for path in files_named(checkout, name):
        folder = PurePosixPath(path).parent
        place = "" if folder == PurePosixPath() else folder.as_posix()
        if place in found:
            continue
        if nested or not any(other == "" or folder.is_relative_to(other) for other in found):
            found.append(place)
    return tuple(found)


def text_of(path: Path) -> str:
    """A file's text, or nothing where it can't be read as one or is very long."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_TEXT:
            return ""
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def any_contains(checkout: Path, name: re.Pattern[str], text: re.Pattern[str], *, below: str = "") -> bool:
    """Whether a file of that name holds that text."""
    return any(text.search(text_of(checkout / path)) for path in files_named(checkout, name, depth=8, below=below))
