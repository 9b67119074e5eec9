"""Which unprivileged user a sandbox runs as when root started the server.

Root's own processes know no limit on their number, and root in a user namespace still owns root's files outside, so a
sandbox then runs as a real user id. Each folder that is worked in has an id of its own, made from its path, so that
sandboxes share neither limits nor signals nor files; no account of the system has these ids, the services' one neither.
Started by an ordinary user, sandboxes run as that user and nothing here does anything.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

#: Ranges that are tried in turn: a container may map only few ids.
_RANGES = (range(200_000, 1_200_000), range(20_000, 60_000))


def _mapped_range() -> range:
    """The ids to choose from: those that exist in this user namespace."""
    with open("/proc/self/uid_map") as file:
        inside = [range(int(first), int(first) + int(count)) for first, _, count in (line.split() for line in file)]
    for ids in _RANGES:
        if any(ids[0] in mapped and ids[-1] in mapped for mapped in inside):
            return ids
    return range(65_534, 65_535)


def sandbox_owner(folder: Path) -> int | None:
    """The user and group id that sandboxes over this folder run as; None when not started by root."""
    if os.geteuid() != 0:
        return None
    ids = _mapped_range()
    with suppress(FileNotFoundError):
        owner = os.lstat(folder).st_uid
        if owner in ids:
            return owner
    digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).digest()
    return ids[int.from_bytes(digest[:8], "big") % len(ids)]


def folder_own(folder: Path, *, owner: int | None = None) -> int | None:
    """Give a folder and all in it to its sandbox's user (or to ``owner``), and return that; not root: change nothing.

    For use while no sandbox runs over it. Links are not followed, and a file with several names is left alone: another
    of its names may be somewhere else.
    """
    owner = sandbox_owner(folder) if owner is None else owner
    if owner is None:
        return None
    for _, folders, files, handle in os.fwalk(folder, follow_symlinks=False):
        if os.fstat(handle).st_uid != owner:
            os.fchown(handle, owner, owner)
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if found.st_uid != owner and (found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)):
                os.chown(name, owner, owner, dir_fd=handle, follow_symlinks=False)
    return owner


def folder_claim(folder: Path, *, owner: int | None = None) -> int | None:
    """Like :func:`folder_own`, but only looks at the folder itself when that is already right: for each opening."""
    owner = sandbox_owner(folder) if owner is None else owner
    if owner is not None and os.lstat(folder).st_uid != owner:
        folder_own(folder, owner=owner)
    return owner
