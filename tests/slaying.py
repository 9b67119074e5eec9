"""Killing the processes of a fleet while jobs run on it, each kill at a chosen point of a chosen job."""

from __future__ import annotations

import datetime
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from apps.core.kill_points import KILL_POINTS
from cli.errors import ApiError
from cli.resources import Project
from tests.counted import CHECK, FILES, CountedModel, Counts, Job, goal_of, job_count
from tests.fleet import Fleet, repository_make
from tests.killing import Arrival, KillPoints
from tests.processes import wait_until

#: Points that an API process comes to.
MERGE_POINTS = tuple(point for point in KILL_POINTS if point.startswith("merge."))
#: Points of a session that runs; at ``report.written`` it has ended. Those of lanes want tasks side by side, others a
#: person who has a plan made otherwise.
RUNNING_POINTS = tuple(
    point
    for point in KILL_POINTS
    if not point.startswith(("merge.", "lane.", "publish.", "index.", "vectors."))
    and point not in ("report.written", "plan.returned", "plan.revised")
)
LANE_POINTS = tuple(point for point in KILL_POINTS if point.startswith("lane."))
#: How long a kill waits for workers that can follow.
_FOLLOWER_SECONDS = 120.0


@dataclass(frozen=True)
class Aim:
    """Kill whoever brings the job to this point, at the visit of this number."""

    point: str
    visit: int = 1
    #: How much later: into a command that runs meanwhile.
    delay: float = 0.0


@dataclass(frozen=True)
class Kill:
    """A process that was killed, and the sessions that it had."""

    point: str
    session_id: str
    at: datetime.datetime
    sessions: tuple[str, ...]


def aims_make(visits: Counter[str], *, kills: int, chance: random.Random) -> list[Aim]:
    """So many, spread over all points as evenly as can be; ``visits``: how often an undisturbed job is at each."""
    points = [point for point in (*RUNNING_POINTS, *MERGE_POINTS) if visits[point]]
    spread = [points[at % len(points)] for at in range(kills)]
    chance.shuffle(spread)
    return [
        Aim(
            point,
            visit=chance.randint(1, visits[point]),
            delay=chance.uniform(0.0, 0.4) if point == "command.running" else 0.0,
        )
        for point in spread
    ]


@dataclass
class Slayer:
    """Runs jobs and kills as their aims say; from one thread, which also starts again what is missing."""

    fleet: Fleet
    points: KillPoints
    model: CountedModel
    base_url: str
    folder: Path
    workers: int
    kills: list[Kill] = field(default_factory=list)
    jobs: dict[int, Job] = field(default_factory=dict)
    statuses: dict[int, str] = field(default_factory=dict)
    #: Seconds that a job may take.
    patience: float = 600.0
    report: Callable[[str], None] = lambda text: None
    _aims: dict[str, Aim] = field(default_factory=dict)
    _project: Project | None = None
    _numbers: int = 0
    _merges: dict[int, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    #: Held by whoever needs an API that lives.
    _api: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.points.decide = self._decide

    # --- jobs ---------------------------------------------------------------------------------------------------------
    def visits_learn(self) -> Counter[str]:
        """Run a job that nobody disturbs, and see how often it is at each point."""
        job = self._start(None, merged=True)
        running = [job.number]
        while running:
            running = self._step(running)
        counted = self._count(job.number)
        assert counted.are_whole, counted.notes
        return Counter(self.points.visits_of(job.session_id))

    def run(self, aims: Sequence[Aim | None], *, at_once: int, meanwhile: Callable[[], object] | None = None) -> Counts:
        """A job for each aim (none: it is left alone); what all of them have left, counted.

        ``meanwhile`` is called once, when each of the first jobs has begun to change something.
        """
        waiting = list(aims)
        numbers: list[int] = []
        running: list[int] = []
        while waiting or running:
            if meanwhile is not None and len(numbers) >= min(at_once, len(aims)) and self._have_begun(numbers):
                meanwhile()
                meanwhile = None
            while waiting and len(running) < at_once:
                aim = waiting.pop(0)
                job = self._start(aim, merged=aim is not None and aim.point in MERGE_POINTS)
                numbers.append(job.number)
                running.append(job.number)
            running = self._step(running)
        assert meanwhile is None, "all was over before it could happen"
        counts = Counts()
        with ThreadPoolExecutor(max_workers=2) as pool:
            for counted in pool.map(self._count, [n for n in numbers if self.statuses[n] == "completed"]):
                counts += counted
        return counts

    def aims_drop(self) -> list[Aim]:
        """The aims of jobs that ended without having been killed; nobody aims so any more."""
        with self._lock:
            unmet = list(self._aims.values())
            self._aims.clear()
            return unmet

    def _have_begun(self, numbers: list[int]) -> bool:
        return all(self.points.visits_of(self.jobs[number].session_id).get("command.running") for number in numbers)

    def _step(self, running: list[int]) -> list[int]:
        """Look after everything once; the jobs that are still at work."""
        self.fleet.revive(workers=self.workers)
        ids = {self.jobs[number].session_id: number for number in running}
        rows = self.fleet.rows(
            "SELECT id::text, status, merged_commit, created_at FROM agents_agentsession WHERE id::text = ANY(%s)",
            (list(ids),),
        )
        now = datetime.datetime.now(datetime.UTC)
        left = []
        for row in rows:
            number = ids[row["id"]]
            job = self.jobs[number]
            if row["status"] in ("completed", "failed", "cancelled", "paused"):
                if row["status"] == "completed" and job.merged and not row["merged_commit"]:
                    self._merge(job)
                else:
                    self._ended(number, row["status"])
                    continue
            if (now - row["created_at"]).total_seconds() > self.patience:
                self._ended(number, f"{row['status']} after {self.patience:.0f} s")
                continue
            left.append(number)
        time.sleep(0.1)
        return left

    def _ended(self, number: int, status: str) -> None:
        self.statuses[number] = status
        self.report(f"job {number}: {status} ({len(self.kills)} kills)")

    def _start(self, aim: Aim | None, *, merged: bool) -> Job:
        self._numbers += 1
        number = self._numbers
        with self._api:
            self.fleet.revive(workers=self.workers)
            # A merge moves its target, so whoever merges has a project of its own.
            project = self._project_make(f"job-{number}") if merged else self._shared()
            session = self.fleet.api.session_run(
                project_id=project.id,
                goal=goal_of(number),
                options={
                    "agent_type": "executor",
                    "model": "openai:loopback",
                    "base_url": self.base_url,
                    "checks": [CHECK],
                    "review": "never",
                },
            )
            with self._lock:
                # Whatever came before a running session had its aim came before the first point as well.
                if aim is not None:
                    self._aims[session.id] = aim
        job = Job(number=number, session_id=session.id, project_id=project.id, merged=merged)
        self.jobs[number] = job
        return job

    def _shared(self) -> Project:
        if self._project is None:
            self._project = self._project_make("shared")
        return self._project

    def _project_make(self, name: str) -> Project:
        return self.fleet.project_make(repository_make(self.folder / name / "repository", FILES))

    def _merge(self, job: Job) -> None:
        """Ask for the merge, again and again until it is done: that is what a client does whose server went away."""
        if time.monotonic() - self._merges.get(job.number, 0.0) < 2.0:
            return
        self._merges[job.number] = time.monotonic()

        def merge() -> None:
            try:
                self.fleet.api.session_command(job.session_id, "merge")
            except ApiError as error:
                if not error.temporary:
                    self.report(f"job {job.number}: merge refused: {error}")

        threading.Thread(target=merge, daemon=True).start()

    def _count(self, number: int) -> Counts:
        return job_count(self.fleet, self.jobs[number], self.model.asked[number])

    # --- kills --------------------------------------------------------------------------------------------------------
    def _decide(self, arrival: Arrival) -> None:
        with self._lock:
            aim = self._aims.get(arrival.session)
            if aim is None or aim.point != arrival.point or arrival.visit < aim.visit:
                return
            del self._aims[arrival.session]
        if arrival.point in MERGE_POINTS:
            with self._api:
                self._kill(arrival, aim)
            return
        self._followers_await(arrival)
        self._kill(arrival, aim)

    def _followers_await(self, arrival: Arrival) -> None:
        """A deployment of several workers has others; one that has just been started is not there yet."""
        deadline = time.monotonic() + _FOLLOWER_SECONDS
        while time.monotonic() < deadline:
            others = [worker for worker in self.fleet.workers if worker.pid != arrival.pid and worker.is_ready()]
            if len(others) >= max(1, self.workers - 2):
                return
            time.sleep(0.05)

    def _kill(self, arrival: Arrival, aim: Aim) -> None:
        time.sleep(aim.delay)
        held = self.fleet.rows(
            "SELECT h.session_id::text AS id FROM agents_sessionhead h"
            " JOIN agents_agentsession s ON s.id = h.session_id"
            " WHERE h.owner LIKE %s AND h.lease_expires_at > now() AND s.status = 'running'",
            (f"%:{arrival.pid}",),
        )
        at = datetime.datetime.now(datetime.UTC)
        os.kill(arrival.pid, signal.SIGKILL)
        # Whoever asks next whether it lives is to hear the truth.
        wait_until(lambda: _is_dead(arrival.pid))
        sessions = tuple(row["id"] for row in held)
        self.kills.append(Kill(arrival.point, arrival.session, at, sessions))

    def recoveries(self) -> list[float]:
        """For each session of each worker that was killed: seconds to the next event, under a new lease."""
        seconds = []
        for kill in self.kills:
            for session_id in kill.sessions:
                rows = self.fleet.rows(
                    "SELECT type, created_at FROM agents_sessionevent WHERE session_id = %s AND created_at > %s"
                    " ORDER BY seq LIMIT 1",
                    (session_id, kill.at),
                )
                if rows and rows[0]["type"] == "SessionStarted":
                    seconds.append((rows[0]["created_at"] - kill.at).total_seconds())
        return seconds


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
