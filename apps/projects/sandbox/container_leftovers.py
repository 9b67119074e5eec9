"""Containers of workers that died: found by their labels, and removed by the next worker that starts one.

Each process holds a lock on a file of its own for as long as it lives. A label names that file, so that whoever can
take the lock knows that the container's process is gone, in whatever container or on whatever shared folder it ran.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from apps.core.errors import ApplicationError
from apps.projects.sandbox.container_engine import Engine
from integrations.file_lock import FileLock

logger = logging.getLogger(__name__)

LABEL_INSTALLATION = "archon.installation"
LABEL_WORKER = "archon.worker"
LABEL_SESSION = "archon.session"
LABEL_PURPOSE = "archon.purpose"
#: Seconds between looks.
_LOOK_EVERY = 60.0
#: Seconds after which the file of a worker that is gone is deleted.
_FORGET_AFTER = 86_400.0


@dataclass
class Worker:
    """This process, as its containers' labels name it."""

    folder: Path
    installation: str
    worker_id: str = field(default_factory=lambda: secrets.token_hex(8))
    process_id: int = field(default_factory=os.getpid)
    looked_at: float = float("-inf")
    lock: FileLock = field(init=False)

    def __post_init__(self) -> None:
        self.lock = FileLock(_lock_path(self.folder, self.worker_id))
        taken = self.lock.acquire()
        assert taken, "a name that was just made up is nobody's"

    def labels(self) -> dict[str, str]:
        return {LABEL_INSTALLATION: self.installation, LABEL_WORKER: self.worker_id}


_worker: Worker | None = None


def worker_get(folder: Path) -> Worker:
    """This process's entry below ``folder``, made when it is first asked for; a forked process has its own."""
    global _worker
    if _worker is None or _worker.process_id != os.getpid() or _worker.folder != folder:
        (folder / "workers").mkdir(parents=True, exist_ok=True)
        _worker = Worker(folder, _installation(folder))
    return _worker


async def leftovers_remove(engine: Engine, *, worker: Worker, now: bool = False) -> int:
    """Remove the containers of this installation whose worker is gone; how many there were. At most once a minute."""
    if not now and time.monotonic() - worker.looked_at < _LOOK_EVERY:
        return 0
    worker.looked_at = time.monotonic()
    removed = 0
    named: set[str] = set()
    for container, labels in await engine.containers_labelled(f"{LABEL_INSTALLATION}={worker.installation}"):
        owner = labels.get(LABEL_WORKER, "")
        named.add(owner)
        if owner == worker.worker_id or not _is_gone(worker.folder, owner):
            continue
        try:
            await engine.container_remove(container)
            removed += 1
        except ApplicationError as error:
            logger.warning("the leftover container %s could not be removed: %s", container, error.message)
    _locks_forget(worker, named)
    return removed


def _locks_forget(worker: Worker, named: set[str]) -> None:
    """Delete the files of workers that are long gone and that no container names any more."""
    for path in (worker.folder / "workers").iterdir():
        try:
            # One that was just made may not be locked yet.
            old = time.time() - path.stat().st_mtime > _FORGET_AFTER
            if old and path.name not in named | {worker.worker_id} and _is_gone(worker.folder, path.name):
                path.unlink()
        except FileNotFoundError:  # another worker was faster
            continue


def _is_gone(folder: Path, worker_id: str) -> bool:
    if not worker_id or not all(character in "0123456789abcdef" for character in worker_id):
        return True
    path = _lock_path(folder, worker_id)
    if not path.exists():
        return True
    lock = FileLock(path)
    if not lock.acquire():
        return False
    # The file stays until the containers are gone: another look would otherwise be in doubt. It is empty.
    lock.release()
    return True


def _lock_path(folder: Path, worker_id: str) -> Path:
    return folder / "workers" / worker_id


def _installation(folder: Path) -> str:
    """A name for this ARCHON_HOME, so that two that share an engine leave each other's containers alone."""
    path = folder / "installation"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        draft = folder / f".installation.{os.getpid()}.{threading.get_ident()}"
        draft.write_text(secrets.token_hex(8))
        try:
            os.link(draft, path)  # the first of two wins
        except FileExistsError:
            pass
        draft.unlink()
        return path.read_text().strip()
