"""The same code on PostgreSQL and Redis of the system, without pgvector: what ``.ci/run`` installs from Debian."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from cli.stack_state import StackLayout
from integrations.embedded import process
from integrations.embedded.reach import unprivileged_uid
from tests.e2e.test_stack import ready
from tests.launching import ROOT, archon_run, archon_spawn, environment
from tests.processes import processes_of, wait_until


@pytest.fixture
def system_services(archon_home: Path) -> Iterator[dict[str, str]]:
    """The variables that name a PostgreSQL and a Redis of the system, made for this test."""
    folder = archon_home / "system"
    folder.mkdir()
    account = unprivileged_uid()
    if account is not None:
        os.chown(folder, *account)
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    redis_server = shutil.which("redis-server")
    assert binaries is not None, "apt-get install postgresql"
    assert redis_server is not None, "apt-get install redis-server"
    log = folder / "log"

    def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
        variables = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        return process.spawn(arguments, log=log, death_signal=signal.SIGKILL, environment=variables, account=account)

    data = folder / "data"
    assert (
        start(binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8").wait() == 0
    ), log.read_text()
    ports = [str(process.free_port()), str(process.free_port())]
    quiet = ("--unix_socket_directories=", "--fsync=off", "--listen_addresses=127.0.0.1")
    servers = [
        start(binaries / "postgres", "-D", data, f"--port={ports[0]}", *quiet),
        start(redis_server, "--port", ports[1], "--bind", "127.0.0.1", "--dir", folder, "--save", ""),
    ]
    try:
        assert wait_until(lambda: _database_create(ports[0])), log.read_text()
        assert wait_until(lambda: _redis_answers(ports[1])), log.read_text()
        yield {
            "DB_HOST": "127.0.0.1",
            "DB_PORT": ports[0],
            "DB_USER": "postgres",
            "DB_NAME": "archon",
            "REDIS_URL": f"redis://127.0.0.1:{ports[1]}/0",
        }
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
            server.wait()


def _database_create(port: str) -> bool:
    try:
        with psycopg.connect(
            f"host=127.0.0.1 port={port} user=postgres dbname=postgres", autocommit=True
        ) as connection:
            connection.execute("CREATE DATABASE archon")
            return True
    except psycopg.OperationalError:
        return False


def _redis_answers(port: str) -> bool:
    try:
        with redis.Redis(port=int(port)) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def test_the_stack_runs_on_them_and_says_that_there_are_no_vectors(
    archon_home: Path, system_services: dict[str, str]
) -> None:
    home = archon_home / "home"
    with archon_spawn(home, "up", "--port", "0", **system_services) as up:
        try:
            layout = StackLayout(home)
            assert wait_until(lambda: up.poll() is not None or _status(layout) == "ready")
            assert up.poll() is None, up.communicate()[0]
            state = layout.state_get()
            assert state is not None
            parts = {part["name"]: part for part in ready(state.url)["parts"]}
            assert {name for name, part in parts.items() if not part["ok"]} == {"vectors"}
            assert parts["vectors"]["required"] is False
            assert not any("embedded" in command for command in processes_of(home).values())
        finally:
            up.send_signal(signal.SIGINT)
            up.communicate()
    assert up.returncode == 0


def test_the_doctor_sees_what_they_are(archon_home: Path, system_services: dict[str, str]) -> None:
    answer = archon_run(archon_home / "home", "doctor", "--json", **system_services)
    findings = {finding["name"]: finding for finding in json.loads(answer.stdout)["findings"]}
    assert findings["database"]["state"] == "ok"
    assert "configured" in findings["database"]["detail"]
    assert findings["pgvector"]["state"] == "missing"
    assert findings["redis"]["state"] == "ok"
    assert findings["redis"]["detail"].startswith("Redis ")


def test_the_commands_of_the_specification_work(archon_home: Path, system_services: dict[str, str]) -> None:
    variables = environment(archon_home / "home", **system_services)
    for arguments in (("migrate",), ("migrate", "--check"), ("check",)):
        answer = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=variables, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr


def _status(layout: StackLayout) -> str:
    state = layout.state_get()
    return state.status if state is not None else ""
