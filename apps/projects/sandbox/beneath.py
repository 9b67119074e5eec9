"""Opening a path below a folder and nowhere else, whatever ``..``, links and races are in the way.

Linux's kernel does it in one call. Elsewhere each name is opened below the folder before it, links are read and walked
by hand, and ``..`` goes back along the folders that were opened, never up what is on disk now.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections import deque
from functools import cache
from typing import Any

_OPENAT2 = 437
_RENAME_NOREPLACE = 1
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
#: As many links as the kernel follows.
_LINKS = 40


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def open_beneath(root: int, path: str, flags: int, *, follow: bool = True) -> int:
    """A descriptor of ``path`` below the folder ``root``, or OSError; EXDEV when it leads out of it."""
    if sys.platform == "linux":
        return _open_by_kernel(root, path, flags, follow=follow)
    return open_by_steps(root, path, flags, follow=follow)


def _open_by_kernel(root: int, path: str, flags: int, *, follow: bool) -> int:
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | (0 if follow else _RESOLVE_NO_SYMLINKS)
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    error = errno.EAGAIN
    # EAGAIN: something above was renamed meanwhile, so the kernel can't tell; it says to ask again.
    for _ in range(20):
        descriptor = int(_libc().syscall(_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)))
        if descriptor >= 0:
            return descriptor
        error = ctypes.get_errno()
        if error != errno.EAGAIN:
            break
    raise OSError(error, os.strerror(error), path)


def rename_to_free(folder: int, name: str, destination: int, new: str) -> None:
    """Rename from one open folder to another; OSError with EEXIST when something has the new name."""
    if sys.platform == "linux":
        # Decided by the kernel, so that nothing is replaced that came meanwhile.
        arguments = (folder, os.fsencode(name), destination, os.fsencode(new), _RENAME_NOREPLACE)
        if _libc().renameat2(*arguments) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), new)
        return
    try:
        os.stat(new, dir_fd=destination, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=destination)
    else:
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), new)


def open_by_steps(root: int, path: str, flags: int, *, follow: bool = True) -> int:
    """The same promise without the kernel's help."""
    opened = [os.dup(root)]
    names = deque(path.split("/"))
    links = 0
    try:
        if path.startswith("/"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        while names:
            name = names.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                if len(opened) == 1:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
                os.close(opened.pop())
                continue
            last = not any(part not in ("", ".") for part in names)
            try:
                wanted = (flags if last else FOLDER_FLAGS) | os.O_NOFOLLOW | os.O_CLOEXEC
                opened.append(os.open(name, wanted, dir_fd=opened[-1]))
            except OSError as error:
                target = _link_target(name, opened[-1], error)
                links += 1
                if not follow or links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from error
                if target.startswith("/"):
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path) from error
                names.extendleft(reversed(target.split("/")))
                continue
            if last:
                return opened.pop()
        # The folder itself, or one that `..` led back to.
        return os.open(".", flags | os.O_CLOEXEC, dir_fd=opened[-1])
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _link_target(name: str, folder: int, error: OSError) -> str:
    """Where the link of that name leads; anything else was refused for the reason that was given."""
    if error.errno not in (errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", errno.ELOOP)):
        raise error
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        raise error from None
