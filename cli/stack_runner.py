"""The process that runs a local stack: services, migrations, API, worker; and stops all of it.

``./archon up`` runs it in the foreground; ``demo`` and ``run`` start it on its own as ``python -m cli.stack_runner``,
and it ends by itself when its last client has gone. Signals are waited for rather than handled, so that nothing is
interrupted half-way: SIGINT, SIGTERM and SIGHUP stop, a second one kills, SIGUSR1 says that a client has left.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import hashlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.stack_children import Child, api_problem
from cli.stack_state import StackLayout, StackState, StackUnavailable
from config.bootstrap import BASE_DIR, BEAT_SCHEDULE_VARIABLE, environment_read, services_prepare
from integrations.embedded import Services, ServicesUnavailable, process
from integrations.embedded.attach import services_settle
from integrations.embedded.presence import Gate, OwnerLock, state_write
from integrations.embedded.reach import home_create

Report = Callable[[str], None]

_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_SIGNALS = _STOP_SIGNALS | {signal.SIGCHLD, signal.SIGUSR1}
_READY_SECONDS = 120.0
_STOP_SECONDS = 15.0
_LINGER_SECONDS = 3.0
_LOOK_SECONDS = 0.5
_SERVICES_LOOK_SECONDS = 2.0


class StackRunning(StackUnavailable):
    """There is a stack already."""


class _StopRequested(Exception):
    """Somebody wants the stack to stop."""


class StackRunner:
    def __init__(self, *, home: Path, host: str, port: int, detached: bool, report: Report) -> None:
        self._layout = StackLayout(home)
        self._host = host
        self._port = port
        self._detached = detached
        self._report = report
        self._owner = OwnerLock(self._layout.lock)
        self._listener: socket.socket | None = None
        self._services: Services | None = None
        self._children: list[Child] = []
        self._url = ""

    def run(self) -> int:
        """Start everything, serve until told to stop, stop everything; returns the exit code.

        Raises ``StackRunning`` when there is a stack already, ``StackUnavailable`` and ``ServicesUnavailable`` when it
        doesn't start; by then whatever had started is stopped again.
        """
        home_create(self._layout.home)
        self._layout.folder.mkdir(mode=0o700, exist_ok=True)
        if not self._owner.acquire():
            raise _running(self._layout)
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        gate = Gate(self._layout.users)
        try:
            with self._failures_said():
                self._start()
                self._serve(gate)
        except _StopRequested:
            pass
        finally:
            self._stop()
            # The locks stay until this process has ended: who waits for them wants it gone.
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        return 0

    # --- up -----------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._layout.kept.unlink(missing_ok=True)
        self._listener = _listen(self._host, self._port)
        host, port = self._listener.getsockname()[:2]
        self._url = f"http://{_visible_host(host)}:{port}"
        self._say("starting", "starting the database and the queue")
        self._services = services_prepare()
        if (fingerprint := self._fingerprint()) is not None:
            self._say("starting", "bringing the database up to date")
            self._prepare_database()
            self._layout.prepared.write_text(fingerprint)
        self._say("starting", "starting the API and the worker")
        self._children = [self._api(), self._worker()]
        for child in self._children:
            child.start()
        self._wait_until_ready()
        self._say("ready", f"ready at {self._url}")

    def _fingerprint(self) -> str | None:
        """Of the database and of what shapes it; none when it is the one for which everything was set up."""
        digest = hashlib.sha256()
        for path in (BASE_DIR / "requirements.txt", *sorted(BASE_DIR.glob("apps/*/migrations/*.py"))):
            digest.update(f"{path.relative_to(BASE_DIR)}\0".encode() + path.read_bytes())
        identity = self._services.database_identity if self._services is not None else ""
        fingerprint = f"{identity} {digest.hexdigest()}"
        known = self._layout.prepared.read_text() if self._layout.prepared.exists() else ""
        # Of somebody else's database we can't tell cheaply whether it is still the same one.
        return None if identity and known == fingerprint and self._layout.token.exists() else fingerprint

    def _prepare_database(self) -> None:
        log = self._layout.logs / "migrate.log"
        child = Child(name="migrate", module=("config.database_prepare",), log=log)
        self._children = [child]
        child.start()
        while (code := child.exit_code()) is None:
            self._pause(_LOOK_SECONDS)
        self._children = []
        if code != 0:
            raise StackUnavailable(
                f"the database could not be brought up to date; the end of {log}:\n{process.log_tail(log)}",
                next_step="./archon doctor",
            )

    def _api(self) -> Child:
        assert self._listener is not None
        descriptor = self._listener.fileno()
        return Child(
            name="API",
            module=("config.serve", str(descriptor)),
            log=self._layout.logs / "api.log",
            pass_fds=(descriptor,),
        )

    def _worker(self) -> Child:
        # Gossip and mingle are for fleets, and mingling takes a second.
        options = ("--pool", "threads", "--without-gossip", "--without-mingle", "--loglevel", "info")
        return Child(
            name="worker",
            module=("celery", "-A", "celery_app", "worker", *options),
            log=self._layout.logs / "worker.log",
            environment={
                BEAT_SCHEDULE_VARIABLE: str(self._layout.schedule),
                # Django's system checks import every view, for 0.2 s and 20 MB that a worker has no use for; migrate
                # has run them.
                "CELERY_SKIP_CHECKS": "1",
            },
        )

    def _wait_until_ready(self) -> None:
        assert self._listener is not None
        deadline = time.monotonic() + _READY_SECONDS
        while (problem := api_problem(self._url)) is not None:
            if time.monotonic() > deadline:
                raise StackUnavailable(
                    f"the stack is not ready after {_READY_SECONDS:.0f} s: {problem}",
                    next_step=f"see the logs in {self._layout.logs}",
                )
            self._pause(0.05)
            self._revive()

    # --- serving ------------------------------------------------------------------------------------------------------

    def _serve(self, gate: Gate) -> None:
        left_at = looked_at = time.monotonic()
        linger = _LINGER_SECONDS
        while True:
            number = self._pause(_LOOK_SECONDS)
            self._revive()
            now = time.monotonic()
            if now - looked_at > _SERVICES_LOOK_SECONDS:
                looked_at = now
                self._services_revive()
            if not self._detached or self._layout.kept.exists() or gate.has_users():
                left_at, linger = now, _LINGER_SECONDS
                continue
            if number == signal.SIGUSR1:
                linger = 0.0
            if now - left_at >= linger and gate.shut():
                return

    def _pause(self, seconds: float) -> int | None:
        """Wait for a signal, which is returned unless it says to stop; raises ``_StopRequested`` if it does."""
        received = signal.sigtimedwait(_SIGNALS, seconds)
        number = received.si_signo if received is not None else None
        if number in _STOP_SIGNALS:
            raise _StopRequested
        return number

    def _revive(self) -> None:
        for child in self._children:
            if (code := child.exit_code()) is not None:
                self._report(f"the {child.name} ended ({code}); starting it again, see {child.log}")
                child.restart()

    def _services_revive(self) -> None:
        """When the services' supervisor was killed, start another: it takes the same ports and passwords."""
        if self._services is None or self._services.is_alive():
            return
        self._report("the database and the queue were gone; starting them again")
        before = self._services
        for name, value in before.environment().items():
            if os.environ.get(name) == value:
                del os.environ[name]
        self._services = services_prepare()
        before.detach()
        if self._services is not None and self._services.environment() != before.environment():
            for child in self._children:
                child.stop(_STOP_SECONDS)
                child.start()

    # --- down ---------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        started = self._services is not None or bool(self._children)
        if started:
            self._say("stopping", "stopping")
        for child in self._children:
            child.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        while any(child.exit_code() is None for child in self._children) and time.monotonic() < deadline:
            received = signal.sigtimedwait(_SIGNALS, 0.1)
            if received is not None and received.si_signo in _STOP_SIGNALS:
                break
        for child in self._children:
            child.kill()
        if self._listener is not None:
            self._listener.close()
        if self._services is not None:
            self._services.detach()
            services_settle(self._layout.home)
        if started:
            self._report("stopped")

    @contextmanager
    def _failures_said(self) -> Iterator[None]:
        """Leave the reason of a failure for whoever waits for this stack."""
        try:
            yield
        except (StackUnavailable, ServicesUnavailable) as error:
            self._stop()
            self._services, self._children = None, []
            self._say("failed", "failed", message=error.message, next_step=error.next_step)
            raise

    def _say(self, status: str, phase: str, *, message: str = "", next_step: str = "") -> None:
        state = StackState(
            pid=os.getpid(),
            status=status,
            phase=phase,
            url=self._url,
            detached=self._detached,
            message=message,
            next_step=next_step,
        )
        state_write(self._layout.state, dataclasses.asdict(state))
        if status != "failed":
            self._report(phase)


def _running(layout: StackLayout) -> StackRunning:
    state = layout.state_get()
    where = f" at {state.url} (pid {state.pid})" if state is not None else ""
    kind = "by itself, for ./archon demo or run" if state is not None and state.detached else "in the foreground"
    return StackRunning(f"already running{where}, {kind}", next_step="use it, or stop it: ./archon down")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StackUnavailable(
                f"port {port} on {host} is in use by another program",
                next_step="name another with --port, or --port 0 for any that is free",
            ) from error
        raise StackUnavailable(
            f"cannot listen on {host}, port {port}: {error.strerror}", next_step="name others with --host and --port"
        ) from error
    listener.listen(2048)
    return listener


def _visible_host(host: str) -> str:
    """What a browser on this machine can be given for an address that may mean all of them."""
    visible = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{visible}]" if ":" in visible else visible


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    arguments = parser.parse_args()
    process.detach()
    try:
        environment_read()
        return StackRunner(
            home=arguments.home, host="127.0.0.1", port=0, detached=True, report=lambda phase: print(phase, flush=True)
        ).run()
    except StackRunning:
        return 0
    except (StackUnavailable, ServicesUnavailable) as error:
        print(error.message, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
