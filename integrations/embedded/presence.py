"""How processes find each other: who owns something, who uses it, and what the owner says about it.

Both locks belong to the kernel, which lets go of them when a process dies, so nothing here can be stale. The owner's is
a record lock, since the kernel then tells who holds it; the users' is a shared ``flock``, since a child that was forked
goes on holding it while one that was executed does not.
"""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

from integrations.posix import fcntl

_LOCK_RECORD = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_POLL_SECONDS = 0.02
#: A record lock is lost when its process closes any descriptor of the file, so we never open our own again.
_owned: set[str] = set()


class OwnerLock:
    """The one process that owns something; the lock ends with the process and is not inherited by children."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Become the owner; false when there is one already."""
        if str(self._path) in _owned:
            return False
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        _owned.add(str(self._path))
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _owned.discard(str(self._path))


def owner_pid(path: Path) -> int | None:
    """The process that holds the :class:`OwnerLock` at ``path`` now; none when nobody does."""
    if str(path) in _owned:
        return os.getpid()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        question = struct.pack(_LOCK_RECORD, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack(_LOCK_RECORD, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    finally:
        os.close(descriptor)
    return None if answer[0] == fcntl.F_UNLCK else int(answer[4])


class UserLock:
    """One of those who use it; held by this process and by what it forks, until all of them have ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, timeout: float) -> bool:
        """Join the users; false when the gate stays shut (its owner is stopping) for ``timeout`` seconds."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                self._descriptor = descriptor
                return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Gate:
    """The owner's view of the users: are there any, and let no new one in while we stop."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def has_users(self) -> bool:
        if not self.shut():
            return True
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return False

    def shut(self) -> bool:
        """Let nobody in from now until :meth:`close`; false when somebody is inside."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def open(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)


def gate_has_users(path: Path) -> bool:
    """Whether anybody holds a :class:`UserLock` at ``path``. The owner looks for an instant too: ask twice."""
    gate = Gate(path)
    try:
        for _ in range(10):
            if not gate.has_users():
                return False
            time.sleep(_POLL_SECONDS)
        return True
    finally:
        gate.close()


def state_write(path: Path, state: dict[str, Any]) -> None:
    """Replace the file as a whole; only its owner can read it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(state, file)
    os.replace(draft, path)


def state_read(path: Path) -> dict[str, Any]:
    """What :func:`state_write` wrote last; empty when there is nothing, or nothing readable."""
    try:
        state = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
