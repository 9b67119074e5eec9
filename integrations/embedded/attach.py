"""The side of those who need the embedded services."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integrations.embedded import process
from integrations.embedded.errors import ServicesUnavailable
from integrations.embedded.layout import DATABASE, SERVERS, Layout
from integrations.embedded.presence import UserLock, gate_has_users, owner_pid, state_read
from integrations.embedded.reach import home_create

_PROJECT = Path(__file__).resolve().parent.parent.parent
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.02
_LAUNCHES = 3
#: The supervisor gets no more of our environment than this; it has no use for anybody's keys.
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONPYCACHEPREFIX")


@dataclass
class Services:
    """What :func:`services_attach` found or started; it stays for as long as this process, or :meth:`detach`."""

    layout: Layout
    servers: dict[str, dict[str, Any]]
    _locks: dict[str, UserLock] = field(default_factory=dict, repr=False)

    def environment(self) -> dict[str, str]:
        """The variables by which the settings find the services."""
        variables: dict[str, str] = {}
        if postgres := self.servers.get("postgres"):
            variables |= {
                "DB_HOST": "127.0.0.1",
                "DB_PORT": str(postgres["port"]),
                "DB_USER": "postgres",
                "DB_PASSWORD": postgres["password"],
                "DB_NAME": DATABASE,
            }
        if valkey := self.servers.get("valkey"):
            address = f"redis://:{valkey['password']}@127.0.0.1:{valkey['port']}/0"
            variables |= dict.fromkeys(("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"), address)
        return variables

    @property
    def database_identity(self) -> str:
        """Changes when the database behind the address is another one; empty without a database of ours."""
        return str(self.servers.get("postgres", {}).get("identity", ""))

    def is_alive(self) -> bool:
        """Whether the supervisor still runs; when it doesn't, attaching anew brings everything back."""
        return owner_pid(self.layout.lock) is not None

    def detach(self, *, wait: bool = False) -> None:
        """Need them no longer. With ``wait`` they are told not to linger, and are gone when this returns, unless
        somebody else uses them."""
        for lock in self._locks.values():
            lock.release()
        self._locks.clear()
        if wait:
            services_settle(self.layout.home)


def services_attach(
    home: Path,
    *,
    database: bool = True,
    redis: bool = True,
    durable: bool = True,
    linger: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Services:
    """Find the services of this home or start them.

    ``durable`` (false for tests alone) and ``linger`` (seconds for which they outlive their last user) count when this
    call is the one that starts them. Raises ``ServicesUnavailable``.
    """
    layout = Layout(home.absolute())
    wanted = [name for name, needed in (("postgres", database), ("valkey", redis)) if needed]
    locks: dict[str, UserLock] = {}
    try:
        home_create(layout.home)
        layout.folder.mkdir(mode=0o700, exist_ok=True)
        for name in wanted:
            locks[name] = UserLock(layout.users(name))
            if not locks[name].acquire(timeout=_STOP_SECONDS):
                raise ServicesUnavailable(
                    "the embedded services have been stopping for a minute",
                    next_step=f"see {layout.logs}, and try again",
                )
    except OSError as error:
        raise ServicesUnavailable(
            f"the state folder {layout.home} can't be used: {error.strerror}",
            next_step="make it yours (it may belong to another user), or set ARCHON_HOME to another folder",
        ) from error
    try:
        options = (*(() if durable else ("--volatile",)), *((f"--linger={linger}",) if linger is not None else ()))
        servers = _wait_for(layout, wanted, options=options, progress=progress)
    except ServicesUnavailable:
        for lock in locks.values():
            lock.release()
        raise
    return Services(layout=layout, servers={name: servers[name] for name in wanted}, _locks=locks)


def services_settle(home: Path) -> bool:
    """Ask the supervisor to stop now if nobody uses it, and wait; false when somebody does."""
    layout = Layout(home.absolute())
    deadline = time.monotonic() + _STOP_SECONDS
    asked_at = 0.0
    while (pid := owner_pid(layout.lock)) is not None and time.monotonic() < deadline:
        if services_used(home):
            return False
        if time.monotonic() - asked_at > 1:
            _signal(pid, signal.SIGUSR1)
            asked_at = time.monotonic()
        time.sleep(_POLL_SECONDS)
    return True


def services_used(home: Path) -> bool:
    """Whether any process uses the services of this home."""
    layout = Layout(home.absolute())
    if state_read(layout.state).get("status") == "stopping":
        return False
    return any(gate_has_users(layout.users(name)) for name in SERVERS)


def _wait_for(
    layout: Layout, wanted: list[str], *, options: tuple[str, ...], progress: Callable[[str], None] | None
) -> dict[str, dict[str, Any]]:
    deadline = time.monotonic() + _START_SECONDS
    launches = 0
    asked: int | None = None
    while time.monotonic() < deadline:
        pid = owner_pid(layout.lock)
        state = state_read(layout.state)
        if pid is not None and state.get("pid") == pid and state.get("status") == "ready":
            servers: dict[str, dict[str, Any]] = state["servers"]
            if all(name in servers for name in wanted):
                return servers
            if asked != pid:
                _signal(pid, signal.SIGUSR2)
                asked = pid
        elif pid is None:
            if launches and state.get("status") == "failed":
                raise ServicesUnavailable(state["message"], next_step=state["next_step"])
            if launches == _LAUNCHES:
                break
            if launches == 0 and progress is not None:
                progress("starting the database and the queue")
            launches += 1
            layout.state.unlink(missing_ok=True)
            _launch(layout, options)
            _wait_for_owner(layout)
            continue
        time.sleep(_POLL_SECONDS)
    raise ServicesUnavailable(
        f"the embedded services did not start; the end of {_log(layout)}:\n{process.log_tail(_log(layout))}",
        next_step="./archon doctor shows what they need",
    )


def _launch(layout: Layout, options: tuple[str, ...]) -> None:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    process.daemon_spawn(
        "integrations.embedded.supervisor",
        str(layout.home),
        *options,
        cwd=_PROJECT,
        log=_log(layout),
        environment=environment,
    )


def _wait_for_owner(layout: Layout) -> None:
    """Give the supervisor that was just launched the moment it needs to take its lock, or to fail."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and owner_pid(layout.lock) is None and not layout.state.exists():
        time.sleep(_POLL_SECONDS / 4)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _log(layout: Layout) -> Path:
    return layout.logs / "services.log"
