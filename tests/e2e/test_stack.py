"""The local stack: everything comes up with one command, and nothing of it stays when it is told to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.stack import StackUnavailable, stack_attach
from cli.stack_state import StackLayout
from integrations.embedded.presence import owner_pid
from tests.launching import ROOT, archon_run, archon_spawn, environment
from tests.processes import processes_of, wait_until

_ATTACH = """
import sys
from pathlib import Path
from cli.stack import stack_attach
with stack_attach(Path(sys.argv[1])) as stack:
    print(stack.url, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def up(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``archon up`` in the foreground, ready at the address that comes with it."""
    with archon_spawn(home, "up", "--port", "0", *arguments) as process:
        try:
            assert wait_until(lambda: process.poll() is not None or _state(home) == "ready"), _output(process)
            assert process.poll() is None, _output(process)
            state = StackLayout(home).state_get()
            assert state is not None
            yield process, state.url
        finally:
            process.terminate()


@pytest.fixture
def fresh_shell(archon_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process starts gets the environment that a user's command would get."""
    for name in set(os.environ) - {"PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER"}:
        monkeypatch.delenv(name)
    for name, value in environment(archon_home).items():
        monkeypatch.setenv(name, value)


def _state(home: Path) -> str:
    state = StackLayout(home).state_get()
    return state.status if state is not None else ""


def _output(process: subprocess.Popen[str]) -> str:
    process.kill()
    return process.communicate()[0]


def ready(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/ready/") as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def client_spawn(home: Path) -> subprocess.Popen[str]:
    """A command that uses the stack until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", _ATTACH, str(home)],
        cwd=ROOT,
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="SIGINT"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, id="SIGHUP", marks=pytest.mark.slow),
    ],
)
def test_one_signal_stops_everything(archon_home: Path, number: signal.Signals) -> None:
    with up(archon_home) as (process, url):
        assert ready(url)["ready"] is True
        commands = " ".join(processes_of(archon_home).values())
        assert all(part in commands for part in ("config.serve", "celery", "postgres", "valkey"))
        process.send_signal(number)
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert processes_of(archon_home) == {}


@pytest.mark.slow
def test_ctrl_c_reaches_nobody_but_the_runner(archon_home: Path) -> None:
    """A terminal sends SIGINT to the whole group: children that stopped on their own could not be stopped in order."""
    with up(archon_home) as (process, _):
        group = [pid for pid in processes_of(archon_home) if os.getpgid(pid) == os.getpgid(process.pid)]
        assert group == [process.pid]


@pytest.mark.slow
def test_a_second_up_says_where_the_first_is(archon_home: Path) -> None:
    with up(archon_home) as (process, url):
        second = archon_run(archon_home, "up", "--port", "0")
        assert second.returncode == 1
        assert f"already running at {url} (pid {process.pid})" in second.stderr
        assert ready(url)["ready"] is True


def test_a_port_in_use_is_named_before_anything_starts(archon_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = archon_run(archon_home, "up", "--port", str(port))
    assert refused.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in refused.stderr
    assert "--port 0" in refused.stderr
    assert not (archon_home / "postgres").exists()


def test_down_stops_what_runs(archon_home: Path) -> None:
    assert "nothing is running" in archon_run(archon_home, "down").stdout
    with up(archon_home) as (process, url):
        assert url in archon_run(archon_home, "down").stdout
        assert process.wait() == 0
    assert processes_of(archon_home) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_shell")
def test_what_a_command_started_is_gone_when_it_ends(archon_home: Path) -> None:
    phases: list[str] = []
    with stack_attach(archon_home, progress=phases.append) as stack:
        assert ready(stack.url)["ready"] is True
        assert stack.token_path.stat().st_mode & 0o077 == 0
    assert any("database" in phase for phase in phases)
    assert processes_of(archon_home) == {}


@pytest.mark.slow
def test_commands_share_a_stack_until_the_last_has_ended(archon_home: Path) -> None:
    clients = [client_spawn(archon_home) for _ in range(2)]
    addresses = {client.stdout.readline() for client in clients if client.stdout is not None}
    assert len(addresses) == 1
    clients[0].communicate()
    assert ready(addresses.pop().strip())["ready"] is True
    clients[1].communicate()
    assert processes_of(archon_home) == {}


@pytest.mark.slow
def test_a_client_that_is_killed_leaves_nothing_for_long(archon_home: Path) -> None:
    client = client_spawn(archon_home)
    assert client.stdout is not None
    assert client.stdout.readline()
    with client:
        client.kill()
    assert wait_until(lambda: not processes_of(archon_home))


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_shell")
def test_a_stack_that_is_kept_stays_until_down(archon_home: Path) -> None:
    with stack_attach(archon_home) as stack:
        stack.keep()
    assert ready(stack.url)["ready"] is True
    assert archon_run(archon_home, "down").returncode == 0
    assert processes_of(archon_home) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_shell")
def test_a_command_that_ends_does_not_stop_up(archon_home: Path) -> None:
    with up(archon_home) as (_, url):
        with stack_attach(archon_home) as stack:
            assert stack.url == url
        assert ready(url)["ready"] is True


@pytest.mark.usefixtures("fresh_shell")
def test_a_start_that_fails_says_why_and_leaves_nothing(archon_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_HOST", "127.0.0.1")
    monkeypatch.setenv("DB_PORT", "1")
    with pytest.raises(StackUnavailable, match="can't be used"), stack_attach(archon_home):
        pass
    assert owner_pid(StackLayout(archon_home).lock) is None
    assert wait_until(lambda: not processes_of(archon_home))
