"""The programs of a stack, and the question whether they are ready."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cli.stack_state import StackUnavailable
from config.bootstrap import BASE_DIR
from integrations.embedded import process

_RESTARTS = 5
_RESTARTS_WITHIN_SECONDS = 120.0
_ANSWER_SECONDS = 5.0


class Child:
    """A Python module of ours run in a session of its own; it dies with us, and what it left behind dies with it."""

    def __init__(
        self,
        *,
        name: str,
        module: tuple[str, ...],
        log: Path,
        environment: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._module = module
        self._environment = dict(environment or {})
        self._pass_fds = pass_fds
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths: list[float] = []

    def start(self) -> None:
        # Many threads, each with an arena of its own, would hold on to memory that none of them uses.
        environment = {"MALLOC_ARENA_MAX": "2", **os.environ, **self._environment}
        self._process = process.spawn(
            [sys.executable, "-m", *self._module],
            log=self.log,
            death_signal=signal.SIGKILL,
            cwd=BASE_DIR,
            environment=environment,
            pass_fds=self._pass_fds,
        )

    def restart(self) -> None:
        """Start again, unless that has happened too often; raises ``StackUnavailable`` then."""
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < _RESTARTS_WITHIN_SECONDS] + [now]
        if len(self._deaths) > _RESTARTS:
            tail = process.log_tail(self.log)
            raise StackUnavailable(
                f"the {self.name} ended {len(self._deaths)} times; the end of {self.log}:\n{tail}",
                next_step="./archon doctor",
            )
        self.start()

    def exit_code(self) -> int | None:
        """How it ended (negative: the signal); none while it runs or was never started."""
        if self._process is None or self._process.returncode is not None:
            return self._process.returncode if self._process is not None else None
        # Look without reaping, so that the process group still has its name when what is left of it is killed.
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self._kill_group()
        return self._process.wait()

    def terminate(self) -> None:
        if self._process is not None and self.exit_code() is None:
            self._process.terminate()

    def kill(self) -> None:
        """Make sure that neither it nor anything it started is left."""
        if self._process is not None and self.exit_code() is None:
            self._kill_group()
            self._process.wait()

    def stop(self, seconds: float) -> None:
        self.terminate()
        deadline = time.monotonic() + seconds
        while self._process is not None and self.exit_code() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def _kill_group(self) -> None:
        assert self._process is not None
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def api_problem(url: str) -> str | None:
    """Ask ``/api/ready/``: none when everything is there, else what is missing, for people."""
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=_ANSWER_SECONDS)
    try:
        # As a reverse proxy would ask, for the sake of production's settings.
        headers = {"Host": _allowed_host(address.netloc), "X-Forwarded-Proto": "https"}
        connection.request("GET", "/api/ready/", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    except OSError as error:
        return f"the API does not answer ({error})"
    except http.client.HTTPException as error:
        return f"the API answers with something else than HTTP ({type(error).__name__})"
    finally:
        connection.close()
    return _missing(answer.status, body)


def _missing(status: int, body: bytes) -> str | None:
    try:
        document = json.loads(body)
        missing = "; ".join(f"{part['name']}: {part['detail']}" for part in document["parts"] if not part["ok"])
        return None if document["ready"] is True else missing
    except (ValueError, KeyError, TypeError):
        return f"the API answers {status} and something unexpected"


def _allowed_host(own: str) -> str:
    """A name under which the API accepts requests: ours, unless the operator listed others only."""
    listed = [host.strip() for host in os.environ.get("DJANGO_ALLOWED_HOSTS", "").split(",") if host.strip()]
    if not listed or {"*", "127.0.0.1", "localhost"} & set(listed):
        return own
    return listed[0].lstrip(".")
