"""The client's side of the local stack: use the one that runs, or start one that stops when nobody uses it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.stack_state import StackLayout, StackState, StackUnavailable
from config.bootstrap import BASE_DIR
from integrations.embedded import process
from integrations.embedded.presence import UserLock, gate_has_users, owner_pid
from integrations.embedded.reach import home_create

__all__ = ["Stack", "StackUnavailable", "stack_attach", "stack_stop"]

_START_SECONDS = 300.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05
_LAUNCHES = 2


@dataclass(frozen=True)
class Stack:
    """A stack that is ready."""

    url: str
    layout: StackLayout

    @property
    def token_path(self) -> Path:
        """The file with the local account's API key."""
        return self.layout.token

    def keep(self) -> None:
        """Let a stack that runs by itself stay when its last client has gone, until ``./archon down``."""
        self.layout.kept.touch()


@contextmanager
def stack_attach(home: Path, *, progress: Callable[[str], None] | None = None) -> Iterator[Stack]:
    """A ready stack of this home, running or started now; ``progress`` hears what it is doing meanwhile.

    When the context ends, a stack that was started this way stops unless somebody else uses it or :meth:`Stack.keep`
    was called, and is gone when this returns. Raises ``StackUnavailable``.
    """
    layout = StackLayout(home.absolute())
    user = UserLock(layout.users)
    try:
        home_create(layout.home)
        layout.folder.mkdir(mode=0o700, exist_ok=True)
        entered = user.acquire(timeout=_STOP_SECONDS)
    except OSError as error:
        raise StackUnavailable(
            f"the state folder {layout.home} can't be used: {error.strerror}",
            next_step="make it yours (it may belong to another user), or set ARCHON_HOME to another folder",
        ) from error
    if not entered:
        raise StackUnavailable("the local stack has been stopping for a minute", next_step=f"see {layout.logs}")
    try:
        state = _wait_until_ready(layout, progress or _ignore)
        yield Stack(url=state.url, layout=layout)
    finally:
        user.release()
        _settle(layout)


def stack_stop(home: Path) -> StackState | None:
    """Stop the stack of this home, whoever uses it, and wait for it; returns what ran, none if nothing did.

    Raises ``StackUnavailable`` when it doesn't stop.
    """
    layout = StackLayout(home.absolute())
    pid = owner_pid(layout.lock)
    if pid is None:
        return None
    state = layout.state_get() or StackState(pid=pid, status="starting")
    _signal(pid, signal.SIGTERM)
    if not _wait_until_gone(layout, pid):
        raise StackUnavailable(f"the stack (pid {pid}) has not stopped", next_step=f"see {layout.logs}")
    return state


def _wait_until_ready(layout: StackLayout, progress: Callable[[str], None]) -> StackState:
    deadline = time.monotonic() + _START_SECONDS
    launches = 0
    said = ""
    while time.monotonic() < deadline:
        pid = owner_pid(layout.lock)
        state = layout.state_get()
        if state is not None and state.status == "ready":
            return state
        if state is not None and state.status == "starting" and state.phase != said:
            said = state.phase
            progress(said)
        if pid is None:
            last = layout.state_last()
            if launches and last is not None and last.status == "failed":
                raise StackUnavailable(last.message, next_step=last.next_step)
            if launches == _LAUNCHES:
                break
            launches += 1
            layout.state.unlink(missing_ok=True)
            _launch(layout)
            continue
        time.sleep(_POLL_SECONDS)
    log = layout.logs / "stack.log"
    raise StackUnavailable(
        f"the local stack did not start; the end of {log}:\n{process.log_tail(log)}", next_step="./archon doctor"
    )


def _launch(layout: StackLayout) -> None:
    process.daemon_spawn(
        "cli.stack_runner", str(layout.home), cwd=BASE_DIR, log=layout.logs / "stack.log", environment=os.environ
    )
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and owner_pid(layout.lock) is None and not layout.state.exists():
        time.sleep(_POLL_SECONDS / 10)


def _settle(layout: StackLayout) -> None:
    """Having left: when we were the last, wait until the stack has stopped."""
    while (pid := owner_pid(layout.lock)) is not None:
        state = layout.state_get()
        if state is None or not state.detached or layout.kept.exists():
            return
        if state.status != "stopping":
            if gate_has_users(layout.users):
                return
            _signal(pid, signal.SIGUSR1)
        if _wait_until_gone(layout, pid, seconds=1.0):
            return


def _wait_until_gone(layout: StackLayout, pid: int, *, seconds: float = _STOP_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while owner_pid(layout.lock) == pid:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _ignore(_: str) -> None:
    """Nobody listens to the progress."""
