"""``archon bench load``: many sessions at once on one worker, each watched by a WebSocket.

The model is a server on this machine, in a process of its own, that answers in 300 ms. Each session is a coder that
takes eleven steps: it looks around, edits a file, runs a shell command in its sandbox, and has its work committed. All
are made first and watched, and then set going together. Exit code 1 unless all of them completed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.counted import percentile
from tests.fleet import Fleet, fleet_open, repository_make
from tests.launching import ROOT
from tests.stacks import home_open

#: Whatever takes longer, once all were set going, hangs.
PATIENCE_SECONDS = 3600.0
_LOOK_SECONDS = 1.0
FILES = {"module.py": "".join(f"def function_{n}():\n    return {n}\n\n" for n in range(40)), "README": "Functions.\n"}
MODEL = """
import time
from tests.loopback.agents import call, finishes, runs, says, turn

STEPS = [
    says(call("list_files")),
    says(call("read_file", path="README")),
    *[says(call("read_file", path="module.py", start_line=line, end_line=line + 9)) for line in (1, 11, 21, 31)],
    says(call("search", pattern="def function_7")),
    says(call("edit_file", path="module.py", old_text="return 7\\n", new_text="return 7 + 0\\n")),
    runs("python3 -c 'import module; print(module.function_7())'"),
    says(call("read_file", path="module.py", start_line=20, end_line=26)),
    finishes("It returns the same."),
]


def answer(request):
    time.sleep(0.3)
    return STEPS[min(turn(request), len(STEPS) - 1)]
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench load", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--sessions", type=int, default=200)
    options = parser.parse_args(argv)
    report, notes = _measure(sessions=options.sessions)
    for note in notes:
        print(note, file=sys.stderr)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:20} {value}")
    return 0 if report["completed"] == options.sessions and not report["events_missed"] else 1


def _measure(*, sessions: int) -> tuple[dict[str, Any], list[str]]:
    with (
        home_open() as home,
        tempfile.TemporaryDirectory(prefix="archon-bench-") as folder,
        _model_open(Path(folder)) as base_url,
    ):
        print("starting a server …", file=sys.stderr)
        with fleet_open(home, workers=1, ARCHON_WORKER_SESSIONS=str(sessions)) as fleet:
            project = fleet.project_make(repository_make(Path(folder) / "module", FILES))
            ids = _sessions_make(fleet, project.id, base_url, count=sessions)
            watch = Watch(fleet.url, fleet.api.token, ids)
            watch.start()
            with _Memory(fleet.workers[0].pid) as memory:
                began = _cpu(memory.process)
                started = time.monotonic()
                print(f"{sessions} sessions are watched; setting them going …", file=sys.stderr)
                _each(ids, lambda session_id: fleet.api.session_command(session_id, "execute"))
                statuses = _ends(fleet, ids)
                seconds = time.monotonic() - started
                spent = _cpu(memory.process) - began
            watch.stop()
            missed = _missed(fleet, watch)
            return _report(statuses, memory, watch, missed=missed, spent=spent, seconds=seconds), _reasons(fleet)


def _report(
    statuses: Sequence[str], memory: _Memory, watch: Watch, *, missed: int, spent: float, seconds: float
) -> dict[str, Any]:
    latencies = watch.latencies
    return {
        "sessions": len(statuses),
        "completed": statuses.count("completed"),
        "failed": len(statuses) - statuses.count("completed"),
        "worker_rss_mb": round(memory.worker_mb, 1),
        "tree_rss_mb": round(memory.tree_mb, 1),
        "cpu_s_per_session": round(spent / len(statuses), 3),
        "event_latency_ms": {
            "p50": _rounded(percentile(latencies, 0.5)),
            "p99": _rounded(percentile(latencies, 0.99)),
        },
        "events_missed": missed,
        "events": len(latencies),
        "seconds": round(seconds, 1),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


# --- Sessions ---------------------------------------------------------------------------------------------------------


@contextmanager
def _model_open(folder: Path) -> Iterator[str]:
    """The model server; its base URL."""
    script = folder / "model.py"
    script.write_text(MODEL)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.loopback.openai_server", "--script", str(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def _sessions_make(fleet: Fleet, project_id: str, base_url: str, *, count: int) -> list[str]:
    def make(number: int) -> str:
        answer = client.post(
            "/api/agents/sessions/",
            json={
                "project": project_id,
                "goal": f"Look at function 7, for the {number}th time.",
                "agent_type": "coder",
                "model": "openai:loopback",
                "base_url": base_url,
            },
        )
        answer.raise_for_status()
        return str(answer.json()["id"])

    headers = {"Authorization": f"Bearer {fleet.api.token}"}
    with httpx.Client(base_url=fleet.url, headers=headers, timeout=60, trust_env=False) as client:
        return _each(range(count), make)


def _each(items: Any, function: Any) -> list[Any]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(function, items))


def _ends(fleet: Fleet, ids: Sequence[str]) -> list[str]:
    """How all of them ended, or stand when patience does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    told = 0.0
    while True:
        rows = fleet.rows(
            "SELECT status, count(*) AS n FROM agents_agentsession WHERE id::text = ANY(%s) GROUP BY status",
            (list(ids),),
        )
        counts = {row["status"]: row["n"] for row in rows}
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"{counts}", file=sys.stderr)
        if not counts.keys() & {"pending", "running"} or time.monotonic() > deadline:
            return [row["status"] for row in rows for _ in range(row["n"])]
        time.sleep(_LOOK_SECONDS)


def _missed(fleet: Fleet, watch: Watch) -> int:
    """Events that a socket should have had and did not, or had twice, by the rows."""
    rows = fleet.rows(
        "SELECT session_id::text AS id, seq FROM agents_sessionevent WHERE session_id::text = ANY(%s)",
        (list(watch.ids),),
    )
    written = {(row["id"], row["seq"]) for row in rows if row["seq"] > watch.known.get(row["id"], 0)}
    return len(written - set(watch.seen)) + len(watch.seen) - len(set(watch.seen))


def _reasons(fleet: Fleet) -> list[str]:
    """Why sessions did not complete, for people."""
    rows = fleet.rows("SELECT id, status, reason FROM agents_agentsession WHERE status <> 'completed' LIMIT 10")
    return [f"{row['id']}: {row['status']}: {row['reason']}" for row in rows]


# --- Watching ---------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """A WebSocket for each session, in a thread of their own; how late each event was."""

    url: str
    token: str
    ids: Sequence[str]
    #: Milliseconds from a row's ``created_at`` until its event was here.
    latencies: list[float] = field(default_factory=list)
    #: Session and number of each event that came, and the last number that was there before.
    seen: list[tuple[str, int]] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)
    _ready: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        """Returns once all of them watch."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch_all()), daemon=True)
        self._thread.start()
        for _ in self.ids:
            assert self._ready.acquire(timeout=120), "a WebSocket was not served"

    def stop(self) -> None:
        assert self._loop is not None and self._thread is not None
        time.sleep(2.0)
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(timeout=30)

    async def _watch_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        watching = [asyncio.create_task(self._watch(session_id)) for session_id in self.ids]
        await self._over.wait()
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    async def _watch(self, session_id: str) -> None:
        address = f"{self.url.replace('http', 'ws', 1)}/ws/agent/{session_id}/"
        async with connect(address, open_timeout=60, max_size=1 << 24, proxy=None) as connection:
            await connection.send(json.dumps({"type": "authenticate", "token": self.token, "after": 0}))
            try:
                async for frame in connection:
                    told = json.loads(frame)
                    if told["type"] == "ready":
                        self.known[session_id] = told["last_seq"]
                        self._ready.release()
                    elif told["type"] == "event" and told["event"]["seq"] > self.known.get(session_id, 0):
                        self.seen.append((session_id, told["event"]["seq"]))
                        made = datetime.fromisoformat(told["event"]["created_at"]).timestamp()
                        self.latencies.append((time.time() - made) * 1000)
            except ConnectionClosed:
                return


# --- Memory and CPU ---------------------------------------------------------------------------------------------------


class _Memory:
    """Looks at a worker's memory, and at that of all it has started, while the context is open; the most of each."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.worker_mb = 0.0
        self.tree_mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            own = self.process.memory_info().rss / 2**20
            others = 0.0
            for child in self.process.children(recursive=True):
                try:
                    others += child.memory_info().rss / 2**20
                except psutil.NoSuchProcess:
                    continue
            self.worker_mb, self.tree_mb = max(self.worker_mb, own), max(self.tree_mb, own + others)


def _cpu(process: psutil.Process) -> float:
    """Seconds of the process, of what it has started and of what of that has ended."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        try:
            of_child = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += of_child.user + of_child.system + of_child.children_user + of_child.children_system
    return float(total)
