"""A server of several workers, each a process of its own, that tests and benchmarks may kill as they like.

``./archon up`` runs one worker and gives up when its parts keep dying; here the API, beat and the workers are started
one by one, as in a deployment, and are started again when they are told to.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from cli.client import Api
from cli.repository import bundle_create, repository_open
from cli.resources import Project
from cli.stack_children import api_problem
from cli.stack_state import StackLayout
from integrations.embedded import Services, process, services_attach
from tests.launching import ROOT, environment
from tests.processes import wait_until

#: What a worker's log says once it can run sessions.
READY = "ready for sessions"
#: A busy machine takes a while to start a process.
_START_SECONDS = 180.0
#: How long the database may be away.
_AWAY_SECONDS = 60.0


@dataclass
class Worker:
    """One worker process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    _ready: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether it takes sessions."""
        if not self._ready:
            self._ready = READY in self.log.read_text(errors="replace")
        return self._ready and self.is_alive()


@dataclass
class Fleet:
    """All processes of one server; only the thread that made it starts some."""

    home: Path
    services: Services
    variables: Mapping[str, str]
    listener: socket.socket
    workers: list[Worker] = field(default_factory=list)
    api_process: subprocess.Popen[bytes] | None = None
    _others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _started: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @cached_property
    def api(self) -> Api:
        return Api(base_url=self.url, token=StackLayout(self.home).token.read_text().strip())

    # --- processes ----------------------------------------------------------------------------------------------------
    def worker_start(self) -> Worker:
        self._started += 1
        name = f"w{self._started}"
        log = self.home / "logs" / f"{name}.log"
        options = (
            "--pool",
            "threads",
            "--without-gossip",
            "--without-mingle",
            "--loglevel",
            "info",
            "-n",
            f"{name}@%h",
        )
        child = self._spawn(log, "celery", "-A", "celery_app", "worker", *options)
        worker = Worker(name, child, log)
        self.workers.append(worker)
        return worker

    def worker_of(self, pid: int) -> Worker | None:
        return next((worker for worker in self.workers if worker.pid == pid), None)

    def api_start(self) -> None:
        """Start the API; its socket is ours, so that no client is refused meanwhile."""
        descriptor = self.listener.fileno()
        log = self.home / "logs" / "api.log"
        self.api_process = self._spawn(log, "config.serve", str(descriptor), pass_fds=(descriptor,))

        def is_up() -> bool:
            if self.api_process is None or self.api_process.poll() is not None:
                # Killed while it starts; whoever looks after the fleet starts another one.
                return True
            problem = api_problem(self.url)
            return problem is None or "worker" in problem

        assert wait_until(is_up, seconds=_START_SECONDS), log

    def beat_start(self) -> None:
        schedule = str(self.home / "beat")
        beat = ("celery", "-A", "celery_app", "beat", "--loglevel", "info", "--schedule", schedule, "--pidfile=")
        self._others.append(self._spawn(self.home / "logs" / "beat.log", *beat))

    def revive(self, *, workers: int) -> None:
        """Start as many as are missing."""
        self.workers = [worker for worker in self.workers if worker.is_alive()]
        while len(self.workers) < workers:
            self.worker_start()
        if self.api_process is not None and self.api_process.poll() is not None:
            self.api_start()

    def complaints(self, most: int = 40) -> list[str]:
        """What workers warned of, or tried again, in their logs."""
        found = []
        for log in sorted((self.home / "logs").glob("w*.log")):
            lines = log.read_text(errors="replace").splitlines()
            found += [
                f"{log.name}: {line}" for line in lines if "[warn" in line or "[error" in line or "again in" in line
            ]
        return found[:most]

    def stop(self) -> None:
        children = [worker.process for worker in self.workers] + self._others
        children += [self.api_process] if self.api_process is not None else []
        for child in children:
            group_kill(child)
        self.listener.close()
        self.services.detach()

    def _spawn(self, log: Path, *module: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        return process.spawn(
            [sys.executable, "-m", *module],
            log=log,
            death_signal=signal.SIGKILL,
            cwd=ROOT,
            environment={
                "MALLOC_ARENA_MAX": "2",
                **environment(self.home, **self.variables),
                "CELERY_SKIP_CHECKS": "1",
            },
            pass_fds=pass_fds,
        )

    # --- what it keeps ------------------------------------------------------------------------------------------------
    def rows(self, query: str, parameters: Any = None) -> list[dict[str, Any]]:
        """Ask the database, without the product."""
        known = self.services.environment()
        deadline = time.monotonic() + _AWAY_SECONDS
        while True:
            try:
                with psycopg.connect(
                    host=known["DB_HOST"],
                    port=known["DB_PORT"],
                    user=known["DB_USER"],
                    password=known["DB_PASSWORD"],
                    dbname=known["DB_NAME"],
                    autocommit=True,
                    row_factory=dict_row,
                ) as connection:
                    return connection.execute(query, parameters).fetchall()
            except psycopg.OperationalError:
                # It is restarted under test.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def project_make(self, repository: Path) -> Project:
        """A project with what is committed in the repository."""
        project = self.api.project_create(name=repository.name)
        local = repository_open(repository)
        bundle = bundle_create(local, folder=repository.parent)
        self.api.repository_upload(project_id=project.id, bundle=bundle, branch=local.branch)
        return project

    def git_dir(self, project_id: str) -> Path:
        return self.home / "repositories" / f"{project_id}.git"


@contextmanager
def fleet_open(home: Path, *, workers: int, **variables: str) -> Iterator[Fleet]:
    """Services, API, beat and so many workers, ready; nothing of them is left afterwards."""
    (home / "logs").mkdir(parents=True, exist_ok=True)
    services = services_attach(home)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    fleet = Fleet(home=home, services=services, variables=variables, listener=listener)
    try:
        log = home / "logs" / "migrate.log"
        assert fleet._spawn(log, "config.database_prepare").wait() == 0, log.read_text()[-4000:]
        for _ in range(workers):
            fleet.worker_start()
        fleet.beat_start()
        fleet.api_start()
        for worker in fleet.workers:
            assert wait_until(worker.is_ready, seconds=_START_SECONDS), worker.log.read_text(errors="replace")[-4000:]
        yield fleet
    finally:
        fleet.stop()


def group_kill(child: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, at once."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def repository_make(folder: Path, files: Mapping[str, str]) -> Path:
    """A repository of one commit with these files."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    identity = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


def until(condition: Any, *, seconds: float) -> bool:
    """As ``wait_until``, at a pace for minutes rather than seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
