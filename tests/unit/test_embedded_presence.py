"""Owners and users find each other by locks that die with their processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from integrations.embedded.presence import Gate, OwnerLock, UserLock, gate_has_users, owner_pid, state_read, state_write

_HOLD = """
import sys
from pathlib import Path
from integrations.embedded.presence import OwnerLock, UserLock
path = Path(sys.argv[2])
held = OwnerLock(path).acquire() if sys.argv[1] == "owner" else UserLock(path).acquire(timeout=1)
print(held, flush=True)
sys.stdin.read()
"""


def _holder(kind: str, path: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, kind, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    return holder


def _kill(holder: subprocess.Popen[str]) -> None:
    with holder:
        holder.kill()


def test_the_kernel_names_the_owner_and_forgets_it_when_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert owner_pid(path) is None
    holder = _holder("owner", path)
    assert owner_pid(path) == holder.pid
    assert not OwnerLock(path).acquire()
    _kill(holder)
    assert owner_pid(path) is None


def test_asking_for_our_own_lock_does_not_lose_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    owner = OwnerLock(path)
    assert owner.acquire()
    assert owner_pid(path) == os.getpid()
    assert not OwnerLock(path).acquire()
    with _probe(path) as probe:
        assert probe.communicate()[0] == f"{os.getpid()}\n"
    owner.release()
    assert owner_pid(path) is None


def _probe(path: Path) -> subprocess.Popen[str]:
    code = (
        f"from pathlib import Path; from integrations.embedded.presence import *; print(owner_pid(Path({str(path)!r})))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_users_are_seen_until_the_last_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "users"
    gate = Gate(path)
    assert not gate.has_users()
    first, second = _holder("user", path), _holder("user", path)
    assert gate.has_users()
    assert gate_has_users(path)
    _kill(first)
    assert gate.has_users()
    _kill(second)
    assert not gate.has_users()
    gate.close()


def test_a_user_stays_while_a_child_that_it_forked_lives(tmp_path: Path) -> None:
    path = tmp_path / "users"
    user = UserLock(path)
    assert user.acquire(timeout=1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    user.release()
    assert gate_has_users(path)
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)
    assert not gate_has_users(path)


def test_nobody_enters_while_the_gate_is_shut(tmp_path: Path) -> None:
    path = tmp_path / "users"
    gate = Gate(path)
    assert gate.shut()
    assert not UserLock(path).acquire(timeout=0.1)
    gate.open()
    user = UserLock(path)
    assert user.acquire(timeout=1)
    assert not gate.shut()
    user.release()
    gate.close()


def test_a_state_is_private_and_an_unreadable_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert state_read(path) == {}
    state_write(path, {"password": "x"})
    assert state_read(path) == {"password": "x"}
    assert path.stat().st_mode & 0o077 == 0
    path.write_text('{"half')
    assert state_read(path) == {}
