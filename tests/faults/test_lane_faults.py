"""Workers are killed while they work on tasks side by side: another goes on, and each task is in the branch once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet, fleet_open, repository_make
from tests.integration.lanes_scene import CHECK, FILES, conflicting, plan_beside, writes
from tests.integration.session_scene import entry
from tests.killing import Arrival, KillPoints, kill_points_open
from tests.processes import wait_until
from tests.slaying import LANE_POINTS
from tests.stacks import home_open

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("lane_fleet")]

WORKERS = 2
_PATIENCE = 300.0
_ENDED = ("completed", "failed", "cancelled", "paused")


@dataclass
class Killer:
    """Kills whoever brings a session to its point for the first time."""

    fleet: Fleet
    #: Points by sessions, and those that were met.
    aims: dict[str, str] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(self, arrival: Arrival) -> None:
        with self._lock:
            if self.aims.get(arrival.session) != arrival.point:
                return
            del self.aims[arrival.session]
            self.killed[arrival.point] += 1
            os.kill(arrival.pid, signal.SIGKILL)
            worker = self.fleet.worker_of(arrival.pid)
            if worker is not None:
                worker.process.wait()


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Fleet, KillPoints, Path]]:
    with ExitStack() as stack:
        home = stack.enter_context(home_open())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="archon-test-"))
        points = stack.enter_context(kill_points_open())
        variables = {"ARCHON_KILL_POINTS": str(points.path), "ARCHON_LEASE_SECONDS": "3"}
        fleet = stack.enter_context(fleet_open(home, workers=WORKERS, **variables))
        recordings = home / "recordings"
        recordings.mkdir(exist_ok=True)
        # Two that change the same line, and one that doesn't: in any order, one is made anew on what another has done.
        planned = entry("planner", plan_beside("First", "Second", "Third"))
        entries = [planned, *conflicting()[1:], *writes("Third", "c.txt", "c\n")]
        (recordings / "lanes.json").write_text(json.dumps({"format": 1, "entries": entries}))
        yield fleet, points, Path(folder)


def git(git_dir: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "--git-dir", str(git_dir), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def row_of(fleet: Fleet, session_id: str) -> dict[str, Any]:
    [row] = fleet.rows("SELECT * FROM agents_agentsession WHERE id = %s", (session_id,))
    return row


def test_killed_at_each_point_of_a_lane(opened: tuple[Fleet, KillPoints, Path]) -> None:
    fleet, points, folder = opened
    project = fleet.project_make(repository_make(folder / "numbers", FILES))
    killer = Killer(fleet)
    points.decide = killer.decide
    options = {"agent_type": "executor", "model": "scripted:lanes", "checks": [CHECK], "lanes": 3}
    sessions: list[str] = []
    for point in LANE_POINTS:
        session = fleet.api.session_run(project_id=project.id, goal="Write it.", options=options)
        killer.aims[session.id] = point
        sessions.append(session.id)
    deadline = time.monotonic() + _PATIENCE
    while any(row_of(fleet, session_id)["status"] not in _ENDED for session_id in sessions):
        assert time.monotonic() < deadline, fleet.complaints()
        fleet.revive(workers=WORKERS)
        time.sleep(0.3)
    assert killer.killed == Counter(LANE_POINTS)
    for session_id in sessions:
        whole_require(fleet, row_of(fleet, session_id))


def whole_require(fleet: Fleet, session: dict[str, Any]) -> None:
    assert (session["status"], session["outcome"]) == ("completed", "verified"), session["reason"]
    git_dir = fleet.git_dir(str(session["project_id"]))
    span = f"{session['base_commit']}..refs/heads/{session['branch']}"
    rows = [line.split("\t") for line in git(git_dir, "log", "--format=%p\t%s", span).splitlines()]
    assert sorted(subject for _, subject in rows) == ["First", "Second", "Third"]
    assert all(" " not in parents for parents, _ in rows)
    lines = git(git_dir, "show", f"{session['branch']}:numbers.txt").splitlines()
    assert sorted(line for line in lines if "four" in line) == ["four erste", "four zweite"] and len(lines) == 8
    events = fleet.rows(
        "SELECT seq, type, payload FROM agents_sessionevent WHERE session_id = %s ORDER BY seq", (session["id"],)
    )
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    told = Counter(event["type"] for event in events)
    assert (told["TaskMerged"], told["TaskCommitted"], told["MergeConflicted"], told["PlanCreated"]) == (3, 3, 1, 1)
    calls = fleet.rows("SELECT DISTINCT state FROM usage_modelcall WHERE scope_id = %s", (session["id"],))
    assert "reserved" not in {call["state"] for call in calls}

    def lanes_left() -> list[str]:
        refs = git(git_dir, "for-each-ref", "--format=%(refname)", "refs/heads/archon").splitlines()
        return [ref for ref in refs if f"{session['branch']}." in ref]

    assert wait_until(lambda: lanes_left() == [])
