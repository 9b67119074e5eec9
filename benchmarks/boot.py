"""How long ``./archon up`` takes, cold (an empty home) and warm, and what the whole of it weighs.

The clock stops when the ready endpoint answers and a job that was sent then has run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from celery import Celery

from cli.stack_children import api_problem
from cli.stack_state import StackLayout
from config.bootstrap import BASE_DIR
from integrations.embedded.layout import Layout
from integrations.embedded.presence import owner_pid, state_read
from integrations.embedded.reach import runtime_root

_PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.01
_SETTLE_SECONDS = 20.0
_SETTLED_MB = 0.5
#: What the child gets of our environment: nothing that would lead it to other services or another home.
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench boot")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--warm", type=int, default=3, help="warm starts, of which the median counts")
    arguments = parser.parse_args(argv)
    home = Path(tempfile.mkdtemp(prefix="archon-bench-"))
    home.chmod(0o755)
    try:
        cold_s, _ = _measure(home)
        warm = [_measure(home) for _ in range(arguments.warm)]
    finally:
        if (elsewhere := runtime_root(home)) != home:
            shutil.rmtree(elsewhere)
        shutil.rmtree(home)
    warm_s = [seconds for seconds, _ in warm]
    parts = warm[-1][1]
    result = {
        "cold_s": round(cold_s, 2),
        "warm_s": round(statistics.median(warm_s), 2),
        "warm_runs_s": [round(seconds, 2) for seconds in warm_s],
        "rss_mb": round(sum(parts.values()), 1),
        "parts_mb": {name: round(size, 1) for name, size in sorted(parts.items())},
        "cpus": os.cpu_count(),
    }
    print(
        json.dumps(result, indent=2)
        if arguments.json
        else "\n".join(f"{key}: {value}" for key, value in result.items())
    )
    return 0


def _measure(home: Path) -> tuple[float, dict[str, float]]:
    """Seconds of one start, and MiB by part (proportional set sizes: what is shared counts once)."""
    started = time.monotonic()
    with _up(home) as process:
        _wait_until_ready(home, process)
        _job_run(home)
        seconds = time.monotonic() - started
        return seconds, _memory_settled(home, process)


@contextmanager
def _up(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    process = subprocess.Popen(
        [BASE_DIR / "archon", "up", "--port", "0"],
        env={**environment, "ARCHON_HOME": str(home), "ARCHON_VENV": sys.prefix},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _wait_until_ready(home: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"archon up ended with {process.returncode}")
        state = StackLayout(home).state_get()
        if state is not None and state.status == "ready" and api_problem(state.url) is None:
            return
        time.sleep(_POLL_SECONDS)
    sys.exit(f"archon up was not ready after {_PATIENCE_SECONDS:.0f} s")


def _job_run(home: Path) -> None:
    """Send a job of Celery's own through the queue and wait for what it returns."""
    valkey = state_read(Layout(home).state)["servers"]["valkey"]
    address = f"redis://:{valkey['password']}@127.0.0.1:{valkey['port']}/0"
    app = Celery("boot", broker=address, backend=address)
    app.conf.update(broker_transport_options={"global_keyprefix": "archon:"}, task_default_queue="archon")
    sent = app.send_task("celery.accumulate", args=("pong",), kwargs={"index": 0}, ignore_result=False)
    if sent.get(timeout=_PATIENCE_SECONDS) != "pong":
        sys.exit("the worker answered something else")
    app.close()


def _memory_settled(home: Path, up: subprocess.Popen[bytes]) -> dict[str, float]:
    """The memory once it no longer grows: the worker goes on importing what sessions need when it is ready already."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    before = _memory(home, up)
    while time.monotonic() < deadline:
        time.sleep(1)
        now = _memory(home, up)
        if abs(sum(now.values()) - sum(before.values())) < _SETTLED_MB:
            return now
        before = now
    return before


def _memory(home: Path, up: subprocess.Popen[bytes]) -> dict[str, float]:
    supervisor = owner_pid(Layout(home).lock)
    parts: dict[str, float] = {}
    for root in (up.pid, supervisor):
        if root is None:
            continue
        runner = psutil.Process(root)
        for process in (runner, *runner.children(recursive=True)):
            name = _part_of(process)
            parts[name] = parts.get(name, 0.0) + _size_mb(process)
    return parts


def _part_of(process: psutil.Process) -> str:
    command: Any = " ".join(process.cmdline())
    known = ("config.serve", "celery", "embedded.supervisor", "cli up", "postgres", "valkey")
    names = ("api", "worker", "services supervisor", "runner", "postgres", "valkey")
    return next((name for mark, name in zip(known, names, strict=True) if mark in command), process.name())


def _size_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.AccessDenied:
        return float(process.memory_info().rss) / 2**20
