"""Files that a runner left, read without following a link and within bounds of size and number."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024
_MAX_FILES = 20_000
_MAX_DEPTH = 20


def result_file_read(path: Path, *, limit: int = MAX_BYTES) -> bytes | None:
    """The content; None when it is missing, no regular file, reached by a link, or larger than ``limit``."""
    try:
        return _descriptor_read(os.open(path, _FLAGS), limit)
    except OSError:
        return None


def result_files_read(root: Path, *, folder: str, suffix: str, limit: int = MAX_BYTES) -> list[bytes]:
    """The files ``*suffix`` below every folder under ``root`` whose path ends in ``folder``, in order of their paths.

    Links are not followed, neither to files nor to folders. All of them together are no more than ``limit`` bytes: what
    would go over it is left out.
    """
    wanted = f"/{folder.strip('/')}/"
    contents: list[bytes] = []
    seen = 0
    if not root.is_dir():
        return contents
    for place, folders, files, handle in os.fwalk(root, follow_symlinks=False):
        folders.sort()
        if place.count("/") - str(root).count("/") > _MAX_DEPTH:
            folders.clear()
        below = place.removeprefix(str(root)) + "/"
        if wanted not in below:
            continue
        for name in sorted(files):
            if not name.endswith(suffix):
                continue
            seen += 1
            if seen > _MAX_FILES:
                return contents
            try:
                content = _descriptor_read(os.open(name, _FLAGS, dir_fd=handle), limit)
            except OSError:
                continue
            if content is not None:
                contents.append(content)
                limit -= len(content)
    return contents


#: A pipe would otherwise be waited for.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _descriptor_read(descriptor: int, limit: int) -> bytes | None:
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        content = file.read(limit + 1)
        return content if len(content) <= limit else None
