"""The specification's own commands, each in a terminal of its own, with nothing configured."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations.embedded import process
from tests.e2e.test_stack import ready
from tests.launching import ROOT, environment
from tests.processes import processes_of, wait_until


@contextlib.contextmanager
def terminal(home: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a terminal, where Ctrl-C ends it in the end."""
    program = subprocess.Popen(
        # A shell that started the tests in the background has Ctrl-C ignored by all that they start.
        ["env", "--default-signal=INT", str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=ROOT,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield program
        assert program.poll() is None, f"{command} ended by itself"
    finally:
        program.send_signal(signal.SIGINT)
        try:
            program.wait(30)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def manage(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    variables = environment(home, **more)
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )


def is_ready(url: str) -> bool:
    try:
        return ready(url)["ready"] is True
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(("daphne", "-b", "127.0.0.1", "-p", "{port}", "config.asgi:application"), id="daphne"),
        pytest.param(("python", "manage.py", "runserver", "127.0.0.1:{port}"), id="runserver"),
    ],
)
@pytest.mark.slow
def test_migrate_serve_work_and_beat(archon_home: Path, server: tuple[str, ...]) -> None:
    migrated = manage(archon_home, "migrate")
    assert migrated.returncode == 0, migrated.stderr
    port = process.free_port()
    command = [part.format(port=port) for part in server]
    with (
        terminal(archon_home, *command),
        terminal(archon_home, "celery", "-A", "celery_app", "worker", "--loglevel=info"),
        terminal(archon_home, "celery", "-A", "celery_app", "beat", "-s", str(archon_home / "schedule")),
    ):
        assert wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"))
    assert wait_until(lambda: not processes_of(archon_home))


@pytest.mark.slow
def test_a_superuser_can_be_made(archon_home: Path) -> None:
    assert manage(archon_home, "migrate").returncode == 0
    made = manage(
        archon_home,
        *("createsuperuser", "--noinput", "--email", "root@example.com"),
        DJANGO_SUPERUSER_PASSWORD="a long enough passphrase",
    )
    assert made.returncode == 0, made.stderr


def test_a_home_that_cannot_be_used_is_one_line_and_no_traceback(archon_home: Path) -> None:
    (archon_home / "file").touch()
    refused = manage(archon_home / "file" / "home", "migrate")
    assert refused.returncode == 1
    assert "can't be used" in refused.stderr
    assert "Traceback" not in refused.stderr
