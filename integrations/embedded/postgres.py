"""The embedded PostgreSQL: made by ``initdb``, run as a child on a loopback port, with a random password."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from integrations.embedded import process
from integrations.embedded.binaries import postgres_bin
from integrations.embedded.server import Place, Server

_PROJECT = Path(__file__).resolve().parent.parent.parent
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # A path under a deep home is longer than a socket's name may be.
    "unix_socket_directories": "",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Processes that a single machine with a small database has no use for.
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    # A process that stands still in the middle of a transaction holds its locks no longer than that.
    "idle_in_transaction_session_timeout": "60s",
    "log_min_messages": "warning",
    "timezone": "UTC",
}
_VOLATILE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres(Server):
    name = "postgres"
    death_signal = signal.SIGINT  # "fast" shutdown; SIGTERM would wait for clients
    needed_mb = 200

    def __init__(self, *, place: Place, password: str, port: int | None) -> None:
        super().__init__(place=place, password=password, port=port)
        self._bin = postgres_bin(runtime_root=place.root, account=self._account)

    def prepare(self) -> None:
        if self.data.exists():
            return
        # Renamed when finished, so that a data folder that exists is a whole one.
        draft = self.data.with_name("postgres.draft")
        self._folder_create(draft)
        password_file = draft.with_name("postgres.password")
        try:
            password_file.touch(mode=0o600)
            password_file.write_text(self.password)
            if self._account is not None:
                os.chown(password_file, *self._account)
            made = self._initdb(draft, password_file)
        finally:
            password_file.unlink(missing_ok=True)
        if made != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise self.failure("could not make its data folder")
        os.replace(draft, self.data)

    def _initdb(self, folder: Path, password_file: Path) -> int:
        arguments = [
            self._bin / "initdb",
            *("-D", folder, "-U", "postgres", f"--pwfile={password_file}"),
            *("-A", "scram-sha-256", "-E", "UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync",)),
        ]
        child = process.spawn(
            arguments,
            log=self.log,
            death_signal=signal.SIGKILL,
            environment=self.environment(),
            account=self._account,
        )
        return child.wait()

    def launch(self) -> subprocess.Popen[bytes]:
        settings = {**_SETTINGS, "port": str(self.port), **({} if self._durable else _VOLATILE_SETTINGS)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return process.spawn(
            [self._bin / "postgres", "-D", self.data, *options],
            log=self.log,
            death_signal=self.death_signal,
            environment=self.environment(),
            account=self._account,
        )

    def is_ready(self, child: subprocess.Popen[bytes]) -> bool:
        lines = self._pid_file().split("\n")
        return len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready"

    def describe(self) -> dict[str, Any]:
        """Look through the port whether the server is ours, and make the database and extension that are missing."""
        # In a process of its own: the supervisor stays small without psycopg.
        question = {"port": self.port, "password": self.password, "data": str(self.data)}
        answer = subprocess.run(
            [sys.executable, "-m", "integrations.embedded.provision"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            cwd=_PROJECT,
            check=False,
        )
        if answer.returncode != 0:
            with process.log_open(self.log) as log:
                log.write(answer.stderr.encode())
            raise self.failure("runs, but could not be set up")
        described: dict[str, Any] = json.loads(answer.stdout)
        return described

    def stop(self, *, every: bool = False) -> None:
        self._stop_child(signal.SIGINT, seconds=20)
        if not every:
            return
        process.processes_stop(
            "postgres",
            folder=self.data,
            signals=((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)),
        )
        # Nobody works in the folder, so the pid in the file is a dead one's, or by now a stranger's whom Postgres
        # would take for a server.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _pid_file(self) -> str:
        try:
            return (self.data / "postmaster.pid").read_text()
        except FileNotFoundError:
            return ""
