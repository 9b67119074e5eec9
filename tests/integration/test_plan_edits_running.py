"""People change a plan while a session carries it out: what has not started is carried out as it is then."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession, SessionHead, Steering
from apps.agents.services.master_orchestrator import session_resume
from apps.agents.services.messages import message_send
from apps.agents.services.plan_edits import plan_edit
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steps import step_list
from apps.authentication.models import User
from apps.core.errors import ApplicationError, Conflict, InvalidInput
from apps.planning.editing import operations_read
from apps.planning.models import Plan, PlanVersion, Task
from apps.planning.selectors import plan_document
from apps.projects.autonomy import Autonomy
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.repository import repository_path
from tests.api import client_for
from tests.integration.plan_scene import begin, coded, plan
from tests.integration.session_scene import (
    Cut,
    Meddling,
    entry,
    events_of,
    messages_of,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

FILES = {"calc.py": "def add(a, b):\n    return a + b\n"}
CHECK = "! grep -q BROKEN calc.py"
DONE = ("finish", {"summary": "done"})
TOLD = "Your task was changed"
NAME = r"^Task: (?P<name>\w+)"


def recording(**more: Any) -> str:
    """Three tasks, one after the other unless ``more`` says otherwise of them.

    Each coder writes what its task says, and again what it is told meanwhile.
    """
    tasks = [{"title": title, "instructions": f"Say: {title.lower()}", **more} for title in ("Alpha", "Beta", "Gamma")]
    again = ("write_file", {"path": "again-{{name}}.txt", "content": "{{new}}\n"})
    first = ("write_file", {"path": "{{name}}.txt", "content": "{{said}}\n"})
    return recording_write(
        [
            entry("planner", ("submit_plan", {"summary": "p", "features": [{"title": "all", "tasks": tasks}]})),
            entry("coder", DONE, user=TOLD, seen=["again-"]),
            entry("coder", again, user=TOLD + r"[\s\S]*?Say: (?P<new>\w+)", task=NAME),
            entry("coder", DONE, last_tool="write_file"),
            entry("coder", first, task=NAME + r"[\s\S]*?Say: (?P<said>\w+)"),
        ]
    )


@pytest.fixture
def scene() -> Iterator[tuple[User, Project, str]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield *project_make(Path(folder) / "repository", FILES), recording()


class Acts(Meddling):
    """Does something once, as another process would, as soon as events of the session say that it is time."""

    def __init__(self, session: AgentSession, when: tuple[str, int], act: Callable[[], object]) -> None:
        super().__init__()
        self._session_id, self._when, self._act = session.id, when, act
        self.acted = False
        self.error: ApplicationError | None = None

    def __call__(self) -> None:
        super().__call__()
        if not self.acted:
            self.meddle(self._look)

    def _look(self) -> None:
        kind, count = self._when
        try:
            if len(events_of(self._session_id, kind)) >= count:
                self.acted = True
                self._act()
        except ApplicationError as error:
            self.error = error


def plan_of_session(session: AgentSession) -> Plan:
    plan = AgentSession.objects.get(id=session.id).plan
    assert plan is not None
    return plan


def edited(user: User, session: AgentSession, *operations: dict[str, Any]) -> Plan:
    return plan_edit(user=user, plan_id=plan_of_session(session).id, operations=operations_read(operations))


def run_with(
    scene: tuple[User, Project, str], when: tuple[str, int], *operations: dict[str, Any]
) -> tuple[AgentSession, Acts]:
    """A session whose plan a person changes at this moment, as it is at its end."""
    user, project, model = scene
    session = session_make(user, project, model, checks=[CHECK])
    acts = Acts(session, when, lambda: edited(user, session, *operations))
    ended = session_run(session.id, cut=acts)
    assert acts.acted
    return ended, acts


def committed(session: AgentSession) -> dict[str, str]:
    """The text files of the session's branch."""
    git_dir = repository_path(project_id=session.project_id)
    names = git_run("ls-tree", "--name-only", session.branch, git_dir=git_dir).text.splitlines()
    return {
        name: git_run("show", f"{session.branch}:{name}", git_dir=git_dir).text
        for name in names
        if name.endswith(".txt")
    }


def statuses(session: AgentSession) -> dict[str, str]:
    rows = Task.objects.filter(feature__plan=plan_of_session(session)).order_by("feature__position", "position")
    return dict(rows.values_list("key", "status"))


def test_what_has_not_started_is_carried_out_as_it_was_changed(scene: tuple[User, Project, str]) -> None:
    ended, acts = run_with(
        scene,
        ("TaskStarted", 1),
        {"op": "update_task", "key": "T2", "instructions": "Say: otherwise", "creates": ["Beta.txt"]},
        {"op": "skip_task", "key": "T3"},
        {"op": "add_task", "title": "Delta", "instructions": "Say: late", "depends_on": ["T2"], "before": "T3"},
    )
    assert acts.error is None
    assert (ended.status, ended.outcome) == ("completed", "verified"), ended.reason
    assert committed(ended) == {"Alpha.txt": "alpha", "Beta.txt": "otherwise", "Delta.txt": "late"}
    assert statuses(ended) == {"T1": "done", "T2": "done", "T4": "done", "T3": "skipped"}
    assert plan_of_session(ended).status == "done"
    revised = events_of(ended.id, "PlanRevised")[0]
    assert (revised.payload["version"], revised.payload["source"], revised.payload["by"]) == (
        2,
        "person",
        str(scene[0].id),
    )
    assert {change["key"] for change in revised.payload["changes"]} == {"T2", "T3", "T4"}
    version = PlanVersion.objects.get(plan=ended.plan, number=2)
    assert (version.session_id, version.seq) == (ended.id, revised.seq)
    assert [event.seq for event in events_of(ended.id)] == list(range(1, ended.head.seq + 1))
    assert not events_of(ended.id, "SteeringReceived"), "nobody works on what was changed"
    progress = client_for(scene[0]).get(f"/api/planning/plans/{ended.plan_id}/progress/").json()
    assert progress["sessions"] == [{"id": str(ended.id), "status": "completed"}]
    again = edited(scene[0], ended, {"op": "unskip_task", "key": "T3"})
    assert again.status == "active", "another session may carry it out"


def test_the_agent_of_a_changed_task_hears_of_it_and_no_other(scene: tuple[User, Project, str]) -> None:
    ended, acts = run_with(
        scene,
        ("TaskStarted", 2),
        {"op": "update_task", "key": "T2", "title": "Beta, better", "instructions": "Say: more"},
        {"op": "hold", "key": "T3", "reason": "not today"},
    )
    assert acts.error is None
    assert committed(ended)["again-Beta.txt"] == "more"
    heard = [
        (message["data"]["content"], role)
        for role, message in messages_of(ended.id)
        if TOLD in str(message["data"]["content"]) and message["type"] == "human"
    ]
    assert len(heard) == 1 and "Task: Beta, better" in heard[0][0] and "Say: more" in heard[0][0]
    row = Steering.objects.get(session=ended)
    assert row.task_id == Task.objects.get(feature__plan=ended.plan, key="T2").id and row.delivered_seq is not None
    delivered = events_of(ended.id, "SteeringDelivered")[0].payload
    assert delivered["steering"] == str(row.id)
    told = ended.executions.get(id=delivered["execution"])
    assert told.task_id == row.task_id
    assert (statuses(ended)["T3"], ended.outcome) == ("blocked", "failing"), "what is held is not done"
    assert SessionHead.objects.get(session=ended).steering == 0


def test_of_agents_side_by_side_one_hears(scene: tuple[User, Project, str]) -> None:
    user, project, _ = scene
    session = session_make(user, project, recording(depends_on=[]), checks=[CHECK], lanes=3)
    change = {"op": "update_task", "key": "T2", "instructions": "Say: more"}
    acts = Acts(session, ("TaskStarted", 3), lambda: edited(user, session, change))
    ended = session_run(session.id, cut=acts)
    assert acts.error is None and (ended.status, ended.outcome) == ("completed", "verified"), ended.reason
    assert {name: text for name, text in committed(ended).items() if "again" in name} == {"again-Beta.txt": "more"}
    assert set(statuses(ended).values()) == {"done"}
    assert SessionHead.objects.get(session=ended).steering == 0


def test_an_agent_that_has_finished_hears_nothing_more(scene: tuple[User, Project, str]) -> None:
    ended, acts = run_with(
        scene, ("PhaseChanged", 4), {"op": "update_task", "key": "T1", "instructions": "Say: too late"}
    )
    # preparing, planning, coding, verifying.
    assert [event.payload["phase"] for event in events_of(ended.id, "PhaseChanged")][3] == "verifying"
    assert isinstance(acts.error, Conflict) and acts.error.extra["state"] == "being_judged"
    assert (ended.outcome, plan_of_session(ended).version) == ("verified", 1)


def test_what_is_added_at_the_very_end_is_carried_out(scene: tuple[User, Project, str]) -> None:
    """The last task is done, the report is to come."""
    ended, acts = run_with(
        scene, ("TaskCommitted", 3), {"op": "add_task", "title": "Delta", "instructions": "Say: last"}
    )
    assert acts.error is None
    assert committed(ended)["Delta.txt"] == "last"
    assert set(statuses(ended).values()) == {"done"} and ended.outcome == "verified"


@pytest.mark.slow
def test_a_word_about_a_task_that_is_over_holds_nothing_up(scene: tuple[User, Project, str]) -> None:
    user, project, model = scene
    session = session_make(user, project, model, checks=[CHECK])

    def say() -> None:
        gone = Task.objects.get(feature__plan=plan_of_session(session), key="T1")
        Steering.objects.create(session=session, sent_by=user, text="x", seq=1, task_id=gone.id)
        SessionHead.objects.filter(session=session).update(steering=1)

    ended = session_run(session.id, cut=Acts(session, ("TaskStarted", 2), say))
    assert (ended.status, ended.outcome, ended.turn) == ("completed", "verified", 0)
    assert not events_of(session.id, "SteeringDelivered")


def test_a_rewind_to_before_an_edit_puts_the_former_version_back(scene: tuple[User, Project, str]) -> None:
    user = scene[0]
    ended, _ = run_with(
        scene,
        ("TaskStarted", 2),
        {"op": "update_task", "key": "T2", "instructions": "Say: more"},
        {"op": "remove_task", "key": "T3"},
    )
    assert set(statuses(ended)) == {"T1", "T2"}
    revised = events_of(ended.id, "PlanRevised")[0].seq
    before = max(step.seq for step in step_list(ended) if step.seq < revised)
    session_rewind(user=user, session_id=ended.id, seq=before)
    plan = plan_of_session(ended)
    assert (plan.version, plan.status) == (3, "active")
    assert plan_document(plan).as_dict() == PlanVersion.objects.get(plan=plan, number=1).document
    assert PlanVersion.objects.get(plan=plan, number=3).source == "rewind"
    assert SessionHead.objects.get(session=ended).steering == 0, "what was changed of the task is taken back with it"
    session_resume(user=user, session_id=ended.id)
    again = session_run(ended.id)
    assert (again.status, again.outcome) == ("completed", "verified"), again.reason
    assert committed(again) == {"Alpha.txt": "alpha", "Beta.txt": "beta", "Gamma.txt": "gamma"}


@pytest.mark.slow
def test_a_rewind_to_an_edit_keeps_it(scene: tuple[User, Project, str]) -> None:
    """The version and what its agent has to hear are of that step."""
    user = scene[0]
    ended, _ = run_with(scene, ("TaskStarted", 2), {"op": "update_task", "key": "T2", "instructions": "Say: more"})
    revised = events_of(ended.id, "PlanRevised")[0].seq
    assert revised in [step.seq for step in step_list(ended)]
    session_rewind(user=user, session_id=ended.id, seq=revised)
    assert plan_document(plan_of_session(ended)).tasks["T2"].instructions == "Say: more"
    assert SessionHead.objects.get(session=ended).steering == 1, "it waits to be heard again"
    session_resume(user=user, session_id=ended.id)
    again = session_run(ended.id)
    assert again.outcome == "verified" and committed(again)["again-Beta.txt"] == "more"


@pytest.mark.slow
def test_a_follow_up_takes_tasks_of_its_own_alone(scene: tuple[User, Project, str]) -> None:
    user, project, model = scene
    session = session_make(user, project, model, checks=[CHECK])
    session_run(session.id)
    message_send(user=user, session_id=session.id, text="Task: Later\nSay: later")
    other = {"op": "add_task", "feature": "F1", "title": "Delta"}
    acts = Acts(session, ("PlanExtended", 1), lambda: edited(user, session, other))
    ended = session_run(session.id, cut=acts)
    assert isinstance(acts.error, InvalidInput) and "follow-up-1" in acts.error.message
    assert ended.status == "completed" and ended.turn == 1


def test_a_session_that_waits_for_approval_gets_what_a_person_made_of_the_plan(
    scene: tuple[User, Project, str],
) -> None:
    user, project, _ = scene
    planner = entry("planner", plan("Alpha", "Beta"))
    waiting = session_run(begin(user, project, [planner, *coded()], autonomy=Autonomy.ASK).id)
    assert waiting.status == "waiting_approval"
    client, address = client_for(user), f"/api/planning/plans/{waiting.plan_id}/"
    changed = [{"op": "skip_task", "key": "T2"}, {"op": "update_task", "key": "T1", "title": "Gamma"}]
    assert client.patch(address, {"operations": changed, "version": 1}).json()["status"] == "waiting"
    assert AgentSession.objects.get(id=waiting.id).status == "waiting_approval"
    seen_before = client.post(f"{address}approve/", {"version": 1, "autonomy": "auto"})
    assert (seen_before.status_code, seen_before.json()["state"]) == (409, "plan_changed")
    assert client.post(f"{address}approve/", {"version": 2, "autonomy": "auto"}).json()["approved_version"] == 2
    ended = session_run(waiting.id)
    assert ended.status == "completed", ended.reason and ended.reason["message"]
    assert (statuses(ended), committed(ended)) == ({"T1": "done", "T2": "skipped"}, {"Gamma.txt": "Gamma"})


@pytest.mark.slow
def test_an_edit_at_any_point_leaves_a_session_that_ends_well(scene: tuple[User, Project, str]) -> None:
    user, project, model = scene
    counting = Cut()
    session_run(session_make(user, project, model, checks=[CHECK]).id, cut=counting)
    operations: list[dict[str, Any]] = [
        {"op": "skip_task", "key": "T2"},
        {"op": "add_task", "title": "Delta", "instructions": "Say: late", "depends_on": ["T1"]},
    ]
    for at in range(counting.points // 4, counting.points + 1, max(counting.points // 12, 1)):
        session = session_make(user, project, model, checks=[CHECK])
        acts = AtPoint(at, session, lambda: edited(user, session, *operations))  # noqa: B023
        ended = session_run(session.id, cut=acts)
        while ended.status == "running":
            ended = session_run(session.id)
        assert (ended.status, ended.outcome) == ("completed", "verified"), (at, ended.reason)
        found = statuses(ended)
        if acts.error is None:
            assert found == {"T1": "done", "T2": "skipped", "T3": "done", "T4": "done"}, (at, found)
            assert "Beta.txt" not in committed(ended)
        else:
            assert found == {"T1": "done", "T2": "done", "T3": "done"}, (at, acts.error)
        assert not ended.executions.filter(task__status="skipped").exists()


class AtPoint(Acts):
    """Does it at a point of the run, wherever the session is then; without a plan there is nothing to do yet."""

    def __init__(self, at: int, session: AgentSession, act: Callable[[], object]) -> None:
        super().__init__(session, ("PlanCreated", 1), act)
        self._at = at

    def _look(self) -> None:
        if self.points >= self._at:
            super()._look()
