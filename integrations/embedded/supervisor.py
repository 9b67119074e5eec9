"""The process that owns the embedded servers: ``python -m integrations.embedded.supervisor HOME``.

It starts a server when somebody holds its users' lock, starts it again when it dies (a bounded number of times), and
stops everything a while after the last user has gone. SIGUSR1 asks it not to linger, SIGUSR2 to look again at once,
SIGTERM to stop whoever uses it. Its children die with it, and the data survives that.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

from integrations.embedded import process
from integrations.embedded.errors import ServicesUnavailable
from integrations.embedded.layout import SERVERS, Layout
from integrations.embedded.postgres import Postgres
from integrations.embedded.presence import Gate, OwnerLock, state_read, state_write
from integrations.embedded.reach import runtime_root, unprivileged_uid
from integrations.embedded.server import Place, Server
from integrations.embedded.valkey import Valkey

LINGER_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_SIGNALS = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_RESTARTS = 5
_RESTARTS_WITHIN_SECONDS = 120.0
_CLASSES: dict[str, type[Server]] = {"postgres": Postgres, "valkey": Valkey}


class Supervisor:
    def __init__(self, *, home: Path, durable: bool, linger: float) -> None:
        self._layout = Layout(home)
        self._durable = durable
        self._linger = linger
        self._gates = {name: Gate(self._layout.users(name)) for name in SERVERS}
        self._running: dict[str, Server] = {}
        self._described: dict[str, Any] = {}
        self._deaths: list[float] = []

    def run(self) -> int:
        """Serve until nobody needs us; returns the exit code."""
        self._say("starting")
        idle_since = time.monotonic()
        linger = self._linger
        try:
            while True:
                used = self._look()
                now = time.monotonic()
                if used:
                    idle_since, linger = now, self._linger
                elif now - idle_since >= linger and self._shut():
                    break
                received = signal.sigtimedwait(_SIGNALS, _LOOK_SECONDS)
                number = received.si_signo if received else None
                if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    break
                if number == signal.SIGUSR1:
                    linger = 0.0
        except ServicesUnavailable as error:
            self._stop()
            self._say("failed", message=error.message, next_step=error.next_step)
            return 1
        except OSError as error:
            self._stop()
            self._say("failed", message=f"the embedded services failed: {error}", next_step="./archon doctor")
            return 1
        self._say("stopping")
        self._stop()
        self._layout.state.unlink(missing_ok=True)
        return 0

    def _look(self) -> bool:
        """Start what is needed, start again what died; whether anybody uses anything."""
        needed = [name for name in SERVERS if self._gates[name].has_users()]
        for name in needed:
            if name not in self._running:
                self._start(name)
        for name, server in self._running.items():
            if (code := server.exit_code()) is not None:
                self._restart(name, server, code)
        return bool(needed)

    def _start(self, name: str) -> None:
        credentials = state_read(self._layout.credentials)
        known = credentials.setdefault(name, {})
        known.setdefault("password", secrets.token_hex(24))
        state_write(self._layout.credentials, credentials)
        place = Place(
            root=runtime_root(self._layout.home),
            logs=self._layout.logs,
            account=unprivileged_uid(),
            durable=self._durable,
        )
        server = _CLASSES[name](place=place, password=known["password"], port=known.get("port"))
        self._running[name] = server
        self._described[name] = server.start()
        known["port"] = server.port
        state_write(self._layout.credentials, credentials)
        self._say("ready", servers=self._described)

    def _restart(self, name: str, server: Server, code: int) -> None:
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < _RESTARTS_WITHIN_SECONDS] + [now]
        _log(f"{name} ended with {code}")
        if len(self._deaths) > _RESTARTS:
            raise server.failure(f"died {len(self._deaths)} times in {_RESTARTS_WITHIN_SECONDS:.0f} s")
        self._described[name]["pid"] = server.restart()
        self._say("ready", servers=self._described)
        _log(f"{name} runs again")

    def _shut(self) -> bool:
        """Let no new user in; false when one came after all."""
        shut: list[Gate] = []
        for gate in self._gates.values():
            if not gate.shut():
                for other in shut:
                    other.open()
                return False
            shut.append(gate)
        return True

    def _stop(self) -> None:
        for server in self._running.values():
            server.stop()
        self._running.clear()

    def _say(self, status: str, **more: Any) -> None:
        state_write(self._layout.state, {"pid": os.getpid(), "status": status, **more})


def _log(message: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), message, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--linger", type=float, default=LINGER_SECONDS)
    parser.add_argument("--volatile", action="store_true")
    arguments = parser.parse_args()
    process.detach()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    owner = OwnerLock(Layout(arguments.home).lock)
    if not owner.acquire():
        return 0
    return Supervisor(home=arguments.home, durable=not arguments.volatile, linger=arguments.linger).run()


if __name__ == "__main__":
    sys.exit(main())
