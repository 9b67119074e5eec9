"""What the supervisor needs to know of a server, and what both servers have in common."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from integrations.embedded import process
from integrations.embedded.errors import ServicesUnavailable
from integrations.embedded.reach import home_create

POLL_SECONDS = 0.02
START_SECONDS = 60.0
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Place:
    """Where a server lives and as whom."""

    root: Path
    logs: Path
    account: tuple[int, int] | None
    #: False only for tests: what was acknowledged may be lost when the machine itself goes down.
    durable: bool = True


class Server(ABC):
    """A server that is ours alone: its data folder, its port, its password, its process."""

    name: ClassVar[str]
    death_signal: ClassVar[int]
    #: Free space, in MiB, below which a start isn't even tried.
    needed_mb: ClassVar[int]

    def __init__(self, *, place: Place, password: str, port: int | None) -> None:
        self.password = password
        self.port = port
        self.log = place.logs / f"{self.name}.log"
        self._root = place.root
        self._durable = place.durable
        self.data = place.root.resolve() / self.name
        self._account = _owner_of(self.data) if self.data.exists() and place.account else place.account
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder if there is none yet; an unfinished one is made anew."""

    @abstractmethod
    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process on ``self.port``."""

    @abstractmethod
    def is_ready(self, child: subprocess.Popen[bytes]) -> bool:
        """Whether the child, and no other server, answers on the port."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What clients have to know, once it is ready; may take its time."""

    @abstractmethod
    def stop(self, *, every: bool = False) -> None:
        """Stop the process; with ``every`` also one that an earlier supervisor left behind."""

    def start(self) -> dict[str, Any]:
        """Bring the server up and return what clients have to know. Raises ``ServicesUnavailable``."""
        home_create(self._root)
        if (free_mb := shutil.disk_usage(self._root).free // 2**20) < self.needed_mb:
            raise ServicesUnavailable(
                f"{self.name} needs {self.needed_mb} MiB of disk space and {self._root} has {free_mb} MiB left",
                next_step="free some space, or set ARCHON_HOME to a folder with more",
            )
        self.stop(every=True)
        self.prepare()
        for attempt in range(3):
            # The port may be taken between the look and the start, and a client may still know the old one.
            self.port = process.free_port(self.port if attempt == 0 else None)
            self._child = self.launch()
            if self._wait(self._child):
                return {"port": self.port, "password": self.password, **self.describe(), "pid": self._child.pid}
            self.stop()
        raise self.failure("does not start")

    def restart(self) -> int:
        """Start again after the process died, on the same port, so that clients find it; returns the new process.

        Raises ``ServicesUnavailable``.
        """
        self.stop(every=True)
        for _ in range(3):
            self._child = self.launch()
            if self._wait(self._child):
                return self._child.pid
            self.stop()
        raise self.failure("died and does not start again")

    def exit_code(self) -> int | None:
        """How the process ended; none while it runs or was never started."""
        return self._child.poll() if self._child is not None else None

    def failure(self, what: str) -> ServicesUnavailable:
        tail = process.log_tail(self.log)
        full = "No space left on device" in tail
        return ServicesUnavailable(
            f"{self.name} {what}; the end of {self.log}:\n{tail}",
            next_step="free some disk space" if full else "./archon doctor shows what it needs",
        )

    def environment(self) -> dict[str, str]:
        return dict(_ENVIRONMENT)

    def _wait(self, child: subprocess.Popen[bytes]) -> bool:
        return wait_until(lambda: self.is_ready(child) or child.poll() is not None) and child.poll() is None

    def _folder_create(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(folder, *self._account)

    def _stop_child(self, number: int, *, seconds: float) -> None:
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.send_signal(number)
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._child = None


def wait_until(condition: Callable[[], bool], *, seconds: float = START_SECONDS) -> bool:
    """Poll; false when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _owner_of(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_uid, status.st_gid
