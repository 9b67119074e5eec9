"""A stack whose processes are killed: it heals, or is gone as a whole."""

from __future__ import annotations

import os
import signal
import urllib.error
from pathlib import Path

import pytest

from integrations.embedded.layout import Layout
from integrations.embedded.presence import owner_pid
from tests.e2e.test_stack import ready, up
from tests.processes import processes_of, wait_until


def is_ready(url: str) -> bool:
    try:
        return ready(url)["ready"] is True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def kill(home: Path, part: str) -> None:
    victims = [pid for pid, command in processes_of(home).items() if part in command]
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not set(victims) & set(processes_of(home)))


@pytest.mark.parametrize("part", ["config.serve", "celery", "bin/postgres", "valkey-server"])
def test_a_part_that_is_killed_comes_back(archon_home: Path, part: str) -> None:
    with up(archon_home) as (_, url):
        kill(archon_home, part)
        assert wait_until(lambda: any(part in command for command in processes_of(archon_home).values()))
        assert wait_until(lambda: is_ready(url))


def test_the_services_come_back_when_their_supervisor_is_killed(archon_home: Path) -> None:
    with up(archon_home) as (_, url):
        supervisor = owner_pid(Layout(archon_home).lock)
        assert supervisor is not None
        os.kill(supervisor, signal.SIGKILL)
        assert wait_until(lambda: owner_pid(Layout(archon_home).lock) not in (None, supervisor))
        assert wait_until(lambda: is_ready(url))


def test_nothing_outlives_an_up_that_is_killed(archon_home: Path) -> None:
    with up(archon_home) as (process, _):
        process.kill()
        process.wait()
        assert wait_until(lambda: not processes_of(archon_home))


def test_a_second_ctrl_c_does_not_wait(archon_home: Path) -> None:
    with up(archon_home) as (process, _):
        worker = next(pid for pid, command in processes_of(archon_home).items() if "celery" in command)
        os.kill(worker, signal.SIGSTOP)  # it will never stop by itself
        process.send_signal(signal.SIGINT)
        assert wait_until(lambda: not any("config.serve" in command for command in processes_of(archon_home).values()))
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert processes_of(archon_home) == {}


def test_a_part_that_never_stays_up_ends_the_stack_with_its_log(archon_home: Path) -> None:
    with up(archon_home) as (process, _):
        for _ in range(6):
            # Only once the one before it is gone: a process that was killed twice would count once.
            assert wait_until(lambda: any("config.serve" in command for command in processes_of(archon_home).values()))
            kill(archon_home, "config.serve")
        assert process.wait() == 2
        assert process.stdout is not None
        assert "the API ended 6 times" in process.stdout.read()
    assert processes_of(archon_home) == {}
