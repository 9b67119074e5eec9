"""The planned run with its worker killed at chosen points: the same tree, plan, results and report as undisturbed."""

from __future__ import annotations

import os
import signal
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

from tests.fleet import Fleet, fleet_open
from tests.killing import Arrival, KillPoints, kill_points_open
from tests.loopback.openai_server import OpenAIServer
from tests.loopback.planned_run import answer
from tests.packages import ITSDANGEROUS
from tests.planned_runs import PlannedRun, run_start
from tests.stacks import home_open

pytestmark = [pytest.mark.timeout(3600), pytest.mark.xdist_group("planned"), pytest.mark.slow]

WORKERS = 2
#: Where a worker dies in one run each, and at which of the session's visits: while it plans, in the middle of tasks
#: that are worked on side by side, between a commit and the word of it, while the plan is revised, at the very end.
KILLS = [
    ("plan.recorded", 1),
    ("lane.begun", 2),
    ("tool.effected", 6),
    ("command.running", 2),
    ("task.judged", 2),
    ("model.replied", 14),
    ("lane.made", 1),
    ("lane.merged", 1),
    ("effect.applied", 9),
    ("checkpoint.before", 9),
    ("commit.moved", 5),
    ("report.before", 1),
]
_PATIENCE = 900.0


@dataclass
class Killer:
    """Kills whoever brings a session to its point, once."""

    aims: dict[str, tuple[str, int]] = field(default_factory=dict)
    killed: list[Arrival] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(self, arrival: Arrival) -> None:
        with self._lock:
            if self.aims.get(arrival.session) != (arrival.point, arrival.visit):
                return
            del self.aims[arrival.session]
            self.killed.append(arrival)
        os.kill(arrival.pid, signal.SIGKILL)
        time.sleep(0.5)


@dataclass(frozen=True)
class Place:
    fleet: Fleet
    points: KillPoints
    killer: Killer
    base_url: str
    folder: Path

    def run(self, name: str, aim: tuple[str, int] | None = None) -> tuple[dict[str, Any], PlannedRun]:
        """Carry the run out, with a kill on the way, and say what it came to."""
        repository = ITSDANGEROUS.released(self.folder / name)
        project = self.fleet.project_make(repository)
        run = run_start(self.fleet.api, project, base_url=self.base_url)
        if aim is not None:
            self.killer.aims[run.session_id] = aim
        self._await(run, "waiting_approval")
        run.approve()
        self._await(run, "completed")
        return run.outcome(self.fleet.git_dir(project.id)), run

    def _await(self, run: PlannedRun, wanted: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (status := run.session.status) != wanted:
            self.fleet.revive(workers=WORKERS)
            stuck = status in ("failed", "cancelled", "paused", "waiting_input") or time.monotonic() > deadline
            assert (
                not stuck
            ), f"{status} rather than {wanted}: {run.session.reason}\n{_story(run)}\n{self.fleet.complaints()}"
            time.sleep(0.2)


def _story(run: PlannedRun) -> str:
    return "\n".join(f"{event.seq:4} {event.type} {str(event.payload)[:300]}" for event in run.events[-60:])


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    killer = Killer()
    with ExitStack() as opened:
        home = opened.enter_context(home_open())
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="archon-test-")))
        points = opened.enter_context(kill_points_open())
        points.decide = killer.decide
        server = opened.enter_context(OpenAIServer(answer))
        variables = {"ARCHON_KILL_POINTS": str(points.path), "ARCHON_LEASE_SECONDS": "3", "ARCHON_DRAIN_SECONDS": "60"}
        fleet = opened.enter_context(fleet_open(home, workers=WORKERS, **variables))
        yield Place(fleet, points, killer, server.base_url, folder)
        assert server.refused == []


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> tuple[dict[str, Any], Counter[str]]:
    outcome, run = place.run("undisturbed")
    assert outcome["status"] == ("completed", "verified"), outcome["report"]
    return outcome, Counter(place.points.visits_of(run.session_id))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("aim", KILLS, ids=lambda aim: f"{aim[0]}, visit {aim[1]}")
def test_killed_on_the_way_it_ends_the_same(
    place: Place, undisturbed: tuple[dict[str, Any], Counter[str]], aim: tuple[str, int]
) -> None:
    expected, visits = undisturbed
    point, visit = aim
    assert visits[point] >= visit, f"an undisturbed run comes to {point} {visits[point]} times"
    outcome, run = place.run(f"{point}-{visit}", aim)
    assert [(arrival.point, arrival.visit) for arrival in place.killer.killed][-1:] == [aim]
    assert len(run.told("SessionStarted")) >= 2, "it was taken up again"
    assert outcome == expected
