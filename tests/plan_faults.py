"""Plans that are carried out while processes die and people change them; who dies, when, and what people do, by lot.

All that is drawn comes from a seed: the plan, the moments at which a worker dies or a person acts (points of
``apps.core.kill_points``, numbers of events), the seconds between other kills, and each act's own choices. How far the
session is at each second is up to the machine.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from apps.core.kill_points import KILL_POINTS
from cli.errors import ApiError
from integrations.embedded.presence import state_read
from tests.fleet import Fleet
from tests.killing import Arrival
from tests.loopback.plan_players import CHECK, DECISIONS, KINDS, Drawn, goal_of
from tests.plan_acts import operations_draw
from tests.processes import wait_until

#: Points that a session which carries a plan out comes to.
POINTS = tuple(
    point
    for point in KILL_POINTS
    if not point.startswith(("merge.", "publish.", "index.", "vectors."))
    and point not in ("report.written", "plan.returned", "plan.revised")
)
ACTS = ("edit", "edit", "edit", "edit", "edit", "edit", "rewind", "rewind", "pause", "steer", "restore")
VICTIMS = ("worker", "worker", "worker", "worker", "api", "postgres", "redis")
#: Pauses that are no surprise: a person's own, after a rewind, and of a plan that goes round in circles.
_EXPECTED = {"", "paused", "requested", "rewound", "plan_oscillates"}
#: How long a process stands still for what a person does meanwhile; it may hold what that has to wait for.
_HOLD_SECONDS = 1.0
_OVER = ("completed", "failed", "cancelled")
#: What dies more often than so in this time is given up by whoever starts it again, as it should be.
_SERVICE_KILLS, _SERVICE_SECONDS = 4, 130.0


@dataclass
class Spared:
    """The services of a fleet, which may die so often."""

    _deaths: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def may_die(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._deaths = [death for death in self._deaths if now - death < _SERVICE_SECONDS]
            if len(self._deaths) >= _SERVICE_KILLS:
                return False
            self._deaths.append(now)
            return True


@dataclass(frozen=True)
class Act:
    """Something that a person does, with a seed for its choices."""

    what: str
    seed: int


@dataclass(frozen=True)
class Moment:
    """A visit of the session to a point: what a person does while the worker stands there, and whether it dies."""

    point: str
    visit: int
    act: Act | None
    kills: bool


@dataclass(frozen=True)
class Scenario:
    """A plan and all that comes over it."""

    seed: int
    drawn: Drawn
    lanes: int
    review: str
    moments: tuple[Moment, ...]
    #: Acts by the number of the event from which on they are due.
    deeds: tuple[tuple[int, Act], ...]
    #: Kills by the seconds after the one before.
    strikes: tuple[tuple[float, str], ...]
    #: What is done once it has ended, which has it go on.
    again: Act | None


def scenario_of(seed: int) -> Scenario:
    draw = random.Random(seed)
    count = draw.randint(2, 8)
    needs = tuple(tuple(sorted(draw.sample(range(n), draw.randint(0, min(n, 2))))) for n in range(count))
    waits = draw.random() < 0.3
    # Where the second feature waits for the first, nothing in the first may need what is in the second.
    split = draw.randint(1, count) if draw.random() < 0.5 else count
    drawn = Drawn(
        needs=needs,
        kinds=tuple(draw.choice(KINDS) for _ in range(count)),
        features=tuple(int(n >= split) for n in range(count)),
        decisions=tuple(draw.choice(DECISIONS) for _ in range(3)),
        waits=waits,
    )

    def act(*without: str) -> Act:
        return Act(draw.choice([each for each in ACTS if each not in without]), draw.randrange(2**32))

    moments = []
    for _ in range(draw.randint(0, 6)):
        kills = draw.random() < 0.6
        acts = not kills or draw.random() < 0.4
        moments.append(
            Moment(draw.choice(POINTS), draw.randint(1, 8), act("rewind", "restore") if acts else None, kills)
        )
    return Scenario(
        seed=seed,
        drawn=drawn,
        lanes=draw.randint(1, 3),
        review=draw.choice(["never", "never", "never", "auto"]),
        moments=tuple(moments),
        deeds=tuple(
            sorted(((draw.randint(4, 40 * count), act()) for _ in range(draw.randint(1, 7))), key=itemgetter(0))
        ),
        strikes=tuple((draw.uniform(1.0, 7.0), draw.choice(VICTIMS)) for _ in range(draw.randint(0, 6))),
        again=Act("rewind", draw.randrange(2**32)) if draw.random() < 0.4 else None,
    )


@dataclass
class Play:
    """One plan, carried out on a fleet whose other processes the owner of the fleet starts again."""

    fleet: Fleet
    scenario: Scenario
    project_id: str
    base_url: str
    patience: float
    spared: Spared
    report: Callable[[str], None]
    session_id: str = ""
    status: str = ""
    kills: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    #: Versions that were answered for.
    acknowledged: list[int] = field(default_factory=list)
    #: What was not as it should be on the way.
    wrong: list[str] = field(default_factory=list)
    _moments: list[Moment] = field(default_factory=list)
    _rewind: Act | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._moments = list(self.scenario.moments)

    def run(self) -> None:
        """Start the session, and see it to its end."""
        self._start()
        striking = threading.Thread(target=self._strike_all, daemon=True)
        striking.start()
        deeds = list(self.scenario.deeds)
        again = self.scenario.again
        deadline = time.monotonic() + self.patience
        while True:
            row = self._row()
            self.status = row["status"]
            if self.status in _OVER and again is not None and row["plan_id"] is not None:
                self._rewind, again = again, None
                self._paused(row)
            elif self.status in _OVER:
                break
            elif time.monotonic() > deadline:
                self.wrong.append(f"it does not end: {self.status} after {self.patience:.0f} s, {row['reason']}")
                break
            elif self.status == "paused":
                self._paused(row)
            elif self.status == "waiting_input":
                self._tried(self._answer)
            elif self.status == "waiting_approval":
                self.wrong.append("it waits for approval, which nobody asked for")
                break
            while deeds and deeds[0][0] <= row["seq"]:
                self._act(deeds.pop(0)[1])
            time.sleep(0.1)
        self.report(f"plan {self.scenario.seed}: {self.status} ({sum(self.kills.values())} kills, {dict(self.acts)})")
        striking.join()

    def _start(self) -> None:
        goal = goal_of(self.scenario.seed)
        options = {
            "agent_type": "executor",
            "model": "openai:loopback",
            "base_url": self.base_url,
            "checks": [CHECK],
            "lanes": self.scenario.lanes,
            "review": self.scenario.review,
            "autonomy": "auto",
            "limits": {"steps": 3000, "seconds": 7200},
        }

        def begin() -> None:
            # One whose answer was lost is there all the same.
            found = self.fleet.rows("SELECT id::text FROM agents_agentsession WHERE goal = %s", (goal,))
            if not found:
                self.fleet.api.session_run(project_id=self.project_id, goal=goal, options=options)
                found = self.fleet.rows("SELECT id::text FROM agents_agentsession WHERE goal = %s", (goal,))
            self.session_id = found[0]["id"]

        deadline = time.monotonic() + self.patience
        while not self._tried(begin):
            assert time.monotonic() < deadline, "no session could be started"
            time.sleep(0.5)

    def _row(self) -> dict[str, Any]:
        [row] = self.fleet.rows(
            "SELECT s.status, s.reason, s.plan_id::text, h.seq FROM agents_agentsession s"
            " JOIN agents_sessionhead h ON h.session_id = s.id WHERE s.id = %s",
            (self.session_id,),
        )
        return row

    # --- What people do -----------------------------------------------------------------------------------------------
    def _tried(self, do: Callable[[], object]) -> bool:
        """Whether it was done. What can't be had is refused; a server that is away says so; anything else is wrong."""
        try:
            do()
        except ApiError as error:
            if error.status >= 500 and error.status not in (502, 503, 504):
                self.wrong.append(f"the API answers {error.status}: {error.message}")
            elif not error.temporary:
                self.acts[f"refused: {error.state or error.code}"] += 1
            return False
        return True

    def _act(self, act: Act) -> None:
        with self._lock:
            self.acts[act.what] += 1
            if act.what in ("rewind", "pause"):
                if act.what == "rewind":
                    self._rewind = act
                self._tried(lambda: self.fleet.api.session_command(self.session_id, "pause"))
            elif act.what == "steer":
                said = {"text": f"Mind the number {act.seed}.", "key": str(act.seed)}
                self._tried(lambda: self.fleet.api.session_steer(self.session_id, **said))
            else:
                self._tried(lambda: self._edit(act))

    def _edit(self, act: Act) -> None:
        plan_id = self._row()["plan_id"]
        if plan_id is None:
            return
        draw = random.Random(act.seed)
        [plan] = self.fleet.rows("SELECT version FROM planning_plan WHERE id = %s", (plan_id,))
        if act.what == "restore":
            body: dict[str, Any] = {"version": draw.randint(1, plan["version"])}
            made = self.fleet.api.call(dict, "POST", f"/api/planning/plans/{plan_id}/restore/", body=body)
        else:
            operations = operations_draw(self.fleet, plan_id, self.scenario.seed, draw)
            self.report(f"plan {self.scenario.seed}: {operations}")
            body = {"operations": operations, **({"version": plan["version"]} if draw.random() < 0.3 else {})}
            made = self.fleet.api.call(dict, "PATCH", f"/api/planning/plans/{plan_id}/", body=body)
        if made["version"] > plan["version"]:
            self.acknowledged.append(made["version"])

    def _answer(self) -> None:
        question = self.fleet.api.session_get(self.session_id).question
        if question is not None:
            self.fleet.api.session_answer(self.session_id, question_id=question.id, answer="yes")

    def _paused(self, row: dict[str, Any]) -> None:
        """Have it go on; from an earlier step, where somebody wants that."""
        code = (row["reason"] or {}).get("code", "")
        if row["status"] == "paused" and code not in _EXPECTED:
            self.acts[f"paused: {code}"] += 1
        rewind, self._rewind = self._rewind, None
        if rewind is not None:
            draw = random.Random(rewind.seed)
            if not self._tried(lambda: self._take_back(draw)):
                self._rewind = rewind if not self.acts["refused: not_found"] else None
            if draw.random() < 0.4:
                self._act(Act("edit", draw.randrange(2**32)))
        elif row["status"] == "paused":
            time.sleep(random.Random(row["seq"]).uniform(0.0, 1.0))
        if self._row()["status"] == "paused":
            self._tried(lambda: self.fleet.api.session_command(self.session_id, "resume"))

    def _take_back(self, draw: random.Random) -> None:
        steps = self.fleet.api.step_list(self.session_id)
        if steps:
            # Rather a step or two than all of it.
            step = steps[int(len(steps) * draw.random() ** 0.5)]
            self.report(f"plan {self.scenario.seed}: back to {step.seq}, {step.summary[:60]}")
            self.fleet.api.session_command(self.session_id, "rewind", seq=step.seq)

    # --- Who dies -----------------------------------------------------------------------------------------------------
    def decide(self, arrival: Arrival) -> None:
        """What becomes of a worker that stands at a point of this session."""
        with self._lock:
            due = (m for m in self._moments if m.point == arrival.point and m.visit <= arrival.visit)
            moment = next(due, None)
            if moment is None:
                return
            self._moments.remove(moment)
        if moment.act is not None:
            acting = threading.Thread(target=self._act, args=(moment.act,), daemon=True)
            acting.start()
            acting.join(_HOLD_SECONDS)
        if moment.kills:
            self._kill(arrival.pid, "worker")

    def _strike_all(self) -> None:
        for after, victim in self.scenario.strikes:
            time.sleep(after)
            if self.status in _OVER:
                return
            if victim in ("postgres", "redis") and not self.spared.may_die():
                victim = "worker"
            if (pid := self._pid(victim)) is not None:
                self._kill(pid, victim)

    def _pid(self, victim: str) -> int | None:
        if victim == "worker":
            [head] = self.fleet.rows("SELECT owner FROM agents_sessionhead WHERE session_id = %s", (self.session_id,))
            pid = head["owner"].rpartition(":")[2]
            alive = [worker.pid for worker in self.fleet.workers if worker.is_alive()]
            return int(pid) if pid.isdigit() and int(pid) in alive else next(iter(alive), None)
        if victim == "api":
            api = self.fleet.api_process
            return api.pid if api is not None and api.poll() is None else None
        servers = state_read(self.fleet.services.layout.state).get("servers", {})
        found = servers.get("valkey" if victim == "redis" else victim, {}).get("pid")
        return int(found) if found else None

    def _kill(self, pid: int, victim: str) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills[victim] += 1
        if worker := self.fleet.worker_of(pid):
            wait_until(lambda: not worker.is_alive())
