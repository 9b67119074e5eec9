"""Sessions whose tasks fail, whose plans are changed by agents and by people, whose workers die, and that are taken
back: whatever comes in which order, no finished task is lost and none begins before what it needs is done.

What holds is read from rows, events and git. The same without a database is in ``tests/unit/test_plan_histories.py``.
"""

from __future__ import annotations

import random
import re
import tempfile
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from apps.agents.models import AgentSession, SessionEffect, SessionEvent
from apps.agents.services.master_orchestrator import session_pause, session_resume
from apps.agents.services.plan_edits import plan_edit
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steps import step_list
from apps.authentication.models import User
from apps.core.errors import ApplicationError
from apps.planning.document import PlanDoc
from apps.planning.editing import operations_read
from apps.planning.models import Plan, PlanVersion, Task
from apps.planning.types import TaskStatus
from apps.projects.git import git_run
from apps.projects.repository import repository_path
from apps.usage.choices import ModelConfiguration
from tests.integration.replan_scene import scene_make
from tests.integration.session_scene import Cut, events_of, lease_let_run_out, session_make, session_run
from tests.loopback.agents import call, finishes, says
from tests.loopback.openai_server import OpenAIServer, Reply, Request

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1800)]

#: Points of a run after which it is cut off, at most, and how often that may happen before it is left to itself.
POINTS, CUTS = 160, 3
OVER = ("completed", "failed", "cancelled")
seeds = st.integers(0, 2**63)


@dataclass(frozen=True)
class Disturbance:
    """A worker that dies at this point, and what a person does then."""

    at: int
    what: str
    first: int
    second: int


@dataclass(frozen=True)
class Scenario:
    """What a session meets. ``kinds`` and ``decisions`` are taken in turn, by what the agents are asked for."""

    needs: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...]
    decisions: tuple[str, ...]
    disturbances: tuple[Disturbance, ...]
    lanes: int


def scenario_of(seed: int) -> Scenario:
    """One of very many. By a number, since examples that are drawn part by part are too much alike to be worth it."""
    draw = random.Random(seed)
    count = draw.randint(2, 6)
    return Scenario(
        needs=tuple(tuple(sorted(draw.sample(range(n), draw.randint(0, min(n, 2))))) for n in range(count)),
        kinds=tuple(draw.choice(["works", "works", "works", "blocked", "fails"]) for _ in range(count)),
        decisions=tuple(draw.choice(["replace", "replace", "drop", "keep", "less"]) for _ in range(3)),
        disturbances=tuple(
            Disturbance(
                draw.randint(1, POINTS),
                draw.choice(["nothing", "edit", "edit", "rewind"]),
                draw.randrange(100),
                draw.randrange(100),
            )
            for _ in range(draw.randint(0, CUTS))
        ),
        lanes=draw.randint(1, 3),
    )


@dataclass(frozen=True)
class Players:
    """The agents: they go by what they are shown, so that the same request gets the same answer."""

    scenario: Scenario

    def __call__(self, request: Request) -> Reply:
        if "submit_plan" in request.tools:
            return self._plan()
        return self._look(request) if "revise_plan" in request.tools else self._work(request)

    def _plan(self) -> Reply:
        tasks = [
            {"title": f"Task {number}", "key": f"T{number}", "depends_on": [f"T{each}" for each in needs]}
            for number, needs in enumerate(self.scenario.needs)
        ]
        return says(call("submit_plan", summary="all", features=[{"title": "all", "key": "F", "tasks": tasks}]))

    def _work(self, request: Request) -> Reply:
        title = request.user.partition("\n")[0].removeprefix("Task: ")
        kind = self._kind(title)
        if not request.results("write_file"):
            path = "broken" if kind == "fails" else f"{re.sub(r'[^a-z0-9]+', '-', title.lower())}.txt"
            return says(call("write_file", path=path, content="made\n"))
        if kind == "blocked":
            return says(call("report_blocked", reason="something is missing", needs="that"))
        # What never passes is given up at once by an agent that says nothing more.
        return Reply(text="I don't know.") if kind == "fails" else finishes(f"{title} is done")

    def _kind(self, title: str) -> str:
        """A planned task goes as it was drawn; one that takes a place or was added works."""
        number = re.fullmatch(r"Task (\d+)", title)
        return self.scenario.kinds[int(number[1])] if number else "works"

    def _look(self, request: Request) -> Reply:
        decision = self.scenario.decisions[zlib.crc32(request.user.encode()) % len(self.scenario.decisions)]
        if decision == "keep" or request.results("revise_plan"):
            return says(call("keep_plan", reason="it serves"))
        plan = request.user[request.user.index("The plan (version") :]
        tasks = re.findall(r"^ *- (\S+) \[(\w+)[^\]]*\] (.*)$", plan, re.MULTILINE)
        failed = [key for key, status, _ in tasks if status == "failed"]
        left = [key for key, status, _ in tasks if status in ("pending", "blocked")]
        new = [{"title": f"instead of {key}", "replaces": key, "depends_on": []} for key in failed]
        if decision == "replace":
            return self._revises([*new, *({"key": key} for key in left)], [])
        if decision == "less" and left:
            return self._revises([*new, *({"key": key} for key in left[1:])], left[:1])
        return self._revises([{"key": key, "depends_on": []} for key in left], failed)

    def _revises(self, tasks: Sequence[Mapping[str, Any]], drop: Sequence[str]) -> Reply:
        features = [{"key": "F", "tasks": tasks}] if tasks else []
        return says(call("revise_plan", reason="as it turned out", features=features, drop=list(drop)))


class History:
    """One session with all that comes over it."""

    def __init__(self, user: User, session: AgentSession) -> None:
        self.user = user
        self.session = session

    def run(self, disturbances: Sequence[Disturbance]) -> AgentSession:
        for disturbance in disturbances:
            self.session = session_run(self.session.id, cut=Cut(disturbance.at))
            self._require()
            if self.session.status == "running":
                lease_let_run_out(self.session.id)
            self._come(disturbance)
            self._require()
            self._go_on()
        for _ in range(4):
            self.session = session_run(self.session.id)
            self._require()
            if self.session.status in OVER:
                return self.session
            self._go_on()
        raise AssertionError(f"it does not end: {self.session.status} {self.session.reason}")

    def _come(self, disturbance: Disturbance) -> None:
        try:
            if disturbance.what == "edit" and self.session.plan_id is not None:
                self._edit(self.session.plan_id, disturbance)
            elif disturbance.what == "rewind":
                self._rewind(disturbance)
        except ApplicationError as error:
            # A person may want what can't be: then nothing changes.
            note(f"refused: {error.message}")
        self.session = AgentSession.objects.get(id=self.session.id)

    def _edit(self, plan_id: uuid.UUID, disturbance: Disturbance) -> None:
        keys = list(Task.objects.filter(feature__plan=plan_id).order_by("key").values_list("key", flat=True))
        key, other = keys[disturbance.first % len(keys)], keys[disturbance.second % len(keys)]
        operations: list[dict[str, Any]] = [
            {"op": "add_task", "title": f"added {disturbance.first}", "feature": "F", "depends_on": [key]},
            {"op": "add_task", "title": f"first {disturbance.first}", "before": key},
            {"op": "skip_task", "key": key},
            {"op": "remove_task", "key": key, "cascade": True},
            {"op": "update_task", "key": key, "depends_on": [other]},
            {"op": "update_task", "key": key, "instructions": "otherwise"},
            {"op": "split_task", "key": key, "parts": [{"title": f"half {key}"}, {"title": f"rest {key}"}]},
            {"op": "move_task", "key": key, "after": other},
        ]
        chosen = operations[(disturbance.first + disturbance.second) % len(operations)]
        note(f"a person: {chosen}")
        plan_edit(user=self.user, plan_id=plan_id, operations=operations_read([chosen]))

    def _rewind(self, disturbance: Disturbance) -> None:
        if self.session.status == "running":
            session_pause(user=self.user, session_id=self.session.id)
        steps = step_list(AgentSession.objects.get(id=self.session.id))
        if steps:
            step = steps[(disturbance.first * 100 + disturbance.second) % len(steps)]
            note(f"back to {step.event.type} at {step.seq}")
            session_rewind(user=self.user, session_id=self.session.id, seq=step.seq)

    def _go_on(self) -> None:
        if self.session.status == "paused":
            session_resume(user=self.user, session_id=self.session.id)

    # --- What holds -----------------------------------------------------------------------------------------------
    def _require(self) -> None:
        self.session = session = AgentSession.objects.select_related("head").get(id=self.session.id)
        assert session.status not in ("failed", "cancelled"), session.reason
        events = events_of(session.id)
        assert [event.seq for event in events] == list(range(1, session.head.seq + 1))
        if session.plan_id is None:
            return
        plan = Plan.objects.get(id=session.plan_id)
        versions = list(PlanVersion.objects.filter(plan=plan).order_by("number"))
        assert [version.number for version in versions] == list(range(1, plan.version + 1))
        document = PlanDoc.read(versions[-1].document)
        rows = {task.key: task for task in Task.objects.filter(feature__plan=plan)}
        assert set(rows) == set(document.tasks)
        live = _live(events)
        self._finished_require(rows)
        self._order_require(rows, live, versions)
        _attempts_require(live)

    def _finished_require(self, rows: Mapping[str, Task]) -> None:
        """What was accepted is done, is in the plan, and is on the branch."""
        accepted = SessionEffect.objects.filter(session=self.session, retired=None, key__startswith="accept:")
        by_id = {str(task.id): task for task in rows.values()}
        git_dir = repository_path(project_id=self.session.project_id)
        for effect in accepted:
            task = by_id[effect.key.removeprefix("accept:")]
            assert task.status == TaskStatus.DONE and task.commit == effect.result["commit"]
            branch = f"refs/heads/{self.session.branch}"
            git_run("merge-base", "--is-ancestor", task.commit, branch, git_dir=git_dir)
        done = {task.key for task in rows.values() if task.status == TaskStatus.DONE}
        assert len(done) == accepted.count()

    def _order_require(
        self, rows: Mapping[str, Task], live: Sequence[SessionEvent], versions: Sequence[PlanVersion]
    ) -> None:
        """Each task began after all that it needs was accepted, or done without by the plan as it was then."""
        begun = _firsts(live, "TaskStarted")
        accepted = _firsts(live, "TaskCommitted")
        for task in rows.values():
            at = begun.get(str(task.id))
            assert (at is not None) == bool(task.attempts), f"{task.key}: {task.attempts} attempts, begun at {at}"
            if at is None:
                continue
            then = [version for version in versions if version.seq is not None and version.seq <= at]
            document = PlanDoc.read(then[-1].document)
            for needed in document.needs[task.key]:
                if not document.tasks[needed].skipped:
                    assert accepted.get(str(rows[needed].id), at) < at, f"{task.key} began before {needed} was done"


def _live(events: Sequence[SessionEvent]) -> list[SessionEvent]:
    """Without what rewinds took back."""
    live: list[SessionEvent] = []
    for event in events:
        if event.type == "SessionRewound":
            live = [each for each in live if each.seq <= event.payload["to_seq"]]
        live.append(event)
    return live


def _firsts(events: Sequence[SessionEvent], kind: str) -> dict[str, int]:
    """By task, the first event of a kind."""
    found: dict[str, int] = {}
    for event in events:
        if event.type == kind:
            found.setdefault(event.payload["task"], event.seq)
    return found


def _attempts_require(live: Sequence[SessionEvent]) -> None:
    """Nothing is begun twice, nor again without a retry; and a task comes to one end."""
    attempts: dict[str, list[int]] = {}
    ends: dict[str, int] = {}
    for event in live:
        if event.type == "TaskStarted":
            attempts.setdefault(event.payload["task"], []).append(event.payload["attempt"])
        elif event.type in ("TaskCommitted", "TaskFailed", "TaskBlocked"):
            ends[event.payload["task"]] = ends.get(event.payload["task"], 0) + 1
    assert all(each == list(range(1, len(each) + 1)) for each in attempts.values())
    assert set(ends) <= set(attempts) and all(count == 1 for count in ends.values())


def _played(scenario: Scenario) -> None:
    note(str(scenario))
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder, OpenAIServer(Players(scenario)) as server:
        user, project = scene_make(Path(folder) / "repository")
        models = ModelConfiguration(model="openai:loopback", base_url=server.base_url)
        made = session_make(user, project, "", models=models, lanes=scenario.lanes)
        session = History(user, made).run(scenario.disturbances)
        assert server.refused == []
        note(f"{session.outcome}: {session.report}")


def _histories(examples: int) -> settings:
    """So many histories. One that fails is shown as it is: to make it smaller would take hours."""
    return settings(
        max_examples=examples,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def loopback_allowed(settings: Any) -> None:
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*"]


@_histories(4)
@given(seed=seeds)
def test_no_history_loses_work_or_starts_it_early(seed: int) -> None:
    _played(scenario_of(seed))


@pytest.mark.slow
@_histories(30)
@given(seed=seeds)
def test_many_histories(seed: int) -> None:
    _played(scenario_of(seed))
