"""A plan is looked at again when something has happened that what has not started may have to follow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from apps.agents.models import AgentSession, ToolCall
from apps.agents.services.master_orchestrator import session_answer, session_resume
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steering import session_steer
from apps.authentication.models import User
from apps.core.database import connection_parameters
from apps.planning.document import FeatureDoc, TaskDoc
from apps.planning.models import PlanVersion, Task
from apps.planning.selectors import plan_document
from apps.planning.services import plan_revise
from apps.planning.types import VersionSource
from apps.projects.models import Project
from tests.integration.replan_scene import (
    blocked,
    fails,
    files_of,
    keeps,
    looks,
    plan_row,
    planned,
    revises,
    scene_make,
    statuses,
    task_of,
    versions,
    works,
)
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
    lease_let_run_out,
    messages_of,
    points_taken,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield scene_make(Path(folder) / "repository")


def begin(scene: tuple[User, Project], *entries: Any) -> AgentSession:
    flat = [each for part in entries for each in (part if isinstance(part, list) else [part])]
    user, project = scene
    return session_make(user, project, recording_write(flat))


def test_a_task_takes_the_place_of_one_that_failed(scene: tuple[User, Project]) -> None:
    made = begin(
        scene,
        planned(task_of("One", depends_on=[]), task_of("Two"), task_of("Three"), task_of("Apart", depends_on=[])),
        revises(
            {"key": "F1", "tasks": [task_of("Other", replaces="T2", instructions="smaller"), {"key": "T3"}]},
            {"key": "F1", "tasks": [{"key": "T4"}]},
        ),
        works("One"), fails("Two"), works("Three"), works("Apart"), works("Other"),
    )  # fmt: skip
    session = session_run(made.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert statuses(session) == {"T1": "done", "T2": "skipped", "T3": "done", "T4": "done", "T5": "done"}
    assert files_of(session) == {"one.txt", "other.txt", "three.txt", "apart.txt"}
    assert versions(session) == [(1, "planner"), (2, "replan")]
    (revised,) = events_of(session.id, "PlanRevised")
    assert {key: revised.payload[key] for key in ("version", "reason", "source", "by")} == {
        "version": 2,
        "reason": "it failed",
        "source": "replan",
        "by": None,
    }
    assert revised.payload["changes"] == PlanVersion.objects.get(plan=session.plan_id, number=2).changes
    # The independent one went on after the look, and what needed the failed one needs what took its place.
    assert Task.objects.get(feature__plan=session.plan_id, key="T3").depends_on == ["T5"]
    begun = [event.payload["title"] for event in events_of(session.id, "TaskStarted") if event.payload["attempt"] == 1]
    assert begun == ["One", "Two", "Other", "Three", "Apart"]


def test_a_blocked_task_is_left_and_looked_at(scene: tuple[User, Project]) -> None:
    made = begin(
        scene,
        planned(task_of("One"), task_of("Two"), task_of("Three")),
        revises(
            {"key": "F1", "tasks": [task_of("Parser"), task_of("Anew", replaces="T2"), {"key": "T3"}]},
            reason="a parser first",
        ),
        works("One"), blocked("Two"), works("Parser"), works("Anew"), works("Three"),
    )  # fmt: skip
    session = session_run(made.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert statuses(session) == {"T1": "done", "T2": "skipped", "T3": "done", "T4": "done", "T5": "done"}
    (left,) = events_of(session.id, "TaskBlocked")
    assert left.payload["reason"] == "the parser is missing (needs: a parser)"
    # Nothing of what wasn't finished is on the branch, and no check was run on it.
    assert files_of(session) == {"one.txt", "parser.txt", "anew.txt", "three.txt"}
    two = Task.objects.get(feature__plan=session.plan_id, key="T2")
    assert (two.result, two.commit, two.attempts) == ("blocked: the parser is missing (needs: a parser)", "", 1)
    assert not [event for event in events_of(session.id, "TaskVerified") if event.payload["task"] == str(two.id)]


@pytest.mark.slow
def test_a_plan_that_is_kept_is_looked_at_once(scene: tuple[User, Project]) -> None:
    made = begin(
        scene,
        planned(task_of("One"), task_of("Two"), task_of("Apart", depends_on=[])),
        keeps(),
        fails("One"), works("Two"), works("Apart"),
    )  # fmt: skip
    session = session_run(made.id)
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    assert statuses(session) == {"T1": "failed", "T2": "blocked", "T3": "done"}
    assert looks(session) == [("PlanKept", ["failed T1"])]
    assert files_of(session) == {"apart.txt"}


@pytest.mark.slow
def test_a_blocked_task_alone_ends_the_session(scene: tuple[User, Project]) -> None:
    session = session_run(begin(scene, planned(task_of("One")), blocked("One")).id)
    assert (session.status, session.outcome) == ("completed", "failing")
    assert session.reason and "the parser is missing (needs: a parser)" in session.reason["message"]
    assert not files_of(session) and not looks(session)


def say(user: User, session: AgentSession, text: str) -> AgentSession:
    """Say something while its agent waits for an answer, and give that."""
    assert session.status == "waiting_input", session.reason
    session_steer(user=user, session_id=session.id, text=text)
    question = ToolCall.objects.get(session=session, status="waiting")
    session_answer(user=user, session_id=session.id, question_id=question.id, answer="This one.")
    return session_run(session.id)


def test_what_a_person_says_can_change_what_has_not_started(scene: tuple[User, Project]) -> None:
    made = begin(
        scene,
        planned(task_of("One"), task_of("Two"), task_of("Three", instructions="the CLI")),
        revises({"key": "F1", "tasks": [{"key": "T2"}]}, drop=["T3"], reason="no CLI", seen=["Leave out the CLI part"]),
        works("One", asks=True), works("Two"), works("Three"),
    )  # fmt: skip
    session = say(scene[0], session_run(made.id), "Leave out the CLI part.")
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert statuses(session) == {"T1": "done", "T2": "done", "T3": "skipped"}
    assert files_of(session) == {"one.txt", "two.txt"}
    assert looks(session) == [("PlanRevised", 2)]
    # After the task that it was said to, before the next one.
    order = [event.type for event in events_of(session.id, "TaskCommitted", "PlanRevised", "TaskStarted")]
    assert order == ["TaskStarted", "TaskCommitted", "PlanRevised", "TaskStarted", "TaskCommitted"]


@pytest.mark.slow
def test_what_a_person_says_may_leave_the_plan_as_it_is(scene: tuple[User, Project]) -> None:
    made = begin(
        scene,
        planned(task_of("One"), task_of("Two")),
        # What it asks is answered together with another word, which it hears itself: no cause for another look.
        keeps("a matter of style", seen=["^ask_user "]),
        entry("replanner", ("ask_user", {"question": "In all of it?"})),
        works("One", asks=True), works("Two"),
    )  # fmt: skip
    waits = say(scene[0], session_run(made.id), "Mind the style.")
    session = say(scene[0], waits, "And be brief.")
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert statuses(session) == {"T1": "done", "T2": "done"}
    assert looks(session) == [("PlanKept", ["steering"])]
    assert versions(session) == [(1, "planner")]


@pytest.mark.slow
def test_a_word_about_the_only_task_is_for_its_agent_alone(scene: tuple[User, Project]) -> None:
    made = begin(scene, planned(task_of("One")), works("One", asks=True))
    session = say(scene[0], session_run(made.id), "Mind the style.")
    assert (session.status, session.outcome, looks(session)) == ("completed", "verified", [])


def round_again(*answers: Any) -> list[Any]:
    """A plan whose second task is blocked, and what is handed over for it: first the same once more."""
    same = {"key": "F1", "tasks": [task_of("Two", replaces="T2"), {"key": "T3"}]}
    return [
        planned(task_of("One"), task_of("Two"), task_of("Three")),
        *answers,
        revises(same),
        works("One"), blocked("Two"), works("Three"), works("Other"),
    ]  # fmt: skip


@pytest.mark.slow
def test_the_same_plan_again_is_refused_once(scene: tuple[User, Project]) -> None:
    other = {"key": "F1", "tasks": [task_of("Other", replaces="T2"), {"key": "T3"}]}
    session = session_run(begin(scene, *round_again(revises(other, last_result="go round in circles"))).id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert statuses(session) == {"T1": "done", "T2": "skipped", "T3": "done", "T4": "done"}
    assert looks(session) == [("PlanRevised", 2)]


def test_a_plan_that_goes_round_in_circles_pauses_for_a_person(scene: tuple[User, Project]) -> None:
    session = session_run(begin(scene, *round_again()).id)
    assert session.reason and (session.status, session.reason["code"]) == ("paused", "plan_oscillates")
    (kept,) = events_of(session.id, "PlanKept")
    assert kept.payload["trigger"] == ["blocked T2"] and "version 1" in kept.payload["reason"]
    session_resume(user=scene[0], session_id=session.id)
    session = session_run(session.id)
    # With the plan as it is: what needs the task that was left waits for nothing any more.
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    assert statuses(session) == {"T1": "done", "T2": "failed", "T3": "blocked"}
    assert len(events_of(session.id, "PlanKept", "PlanRevised")) == 1


def test_there_and_back_over_several_looks_is_a_circle(scene: tuple[User, Project]) -> None:
    there = {"key": "F1", "tasks": [task_of("Other", replaces="T1"), {"key": "T2"}]}
    back = {"key": "F1", "tasks": [task_of("One", replaces="T3", instructions=""), {"key": "T2"}]}
    made = begin(
        scene,
        planned(task_of("One"), task_of("Two")),
        keeps("nothing else is left to try", last_result="version 1 of the plan"),
        revises(back, task="T3 is blocked"),
        revises(there, task="T1 is blocked"),
        blocked("One"), blocked("Other"), works("Two"),
    )  # fmt: skip
    session = session_run(made.id)
    assert looks(session) == [("PlanRevised", 2), ("PlanKept", ["blocked T3"])]
    assert (session.status, session.outcome) == ("completed", "failing")


@pytest.mark.slow
def test_a_plan_is_looked_at_so_often_and_no_more(scene: tuple[User, Project]) -> None:
    titles = ["A", "B", "C", "D", "E", "F", "G"]
    made = begin(
        scene,
        planned(*(task_of(title, depends_on=[]) for title in titles)),
        keeps(),
        *(blocked(title) for title in titles[:6]), works("G"),
    )  # fmt: skip
    session = session_run(made.id)
    assert looks(session) == [("PlanKept", [f"blocked T{number}"]) for number in range(1, 7)]
    assert "5 times" in events_of(session.id, "PlanKept")[-1].payload["reason"]
    assert sum(role == "replanner" and message["type"] == "ai" for role, message in messages_of(session.id)) == 5
    assert files_of(session) == {"g.txt"} and session.outcome == "failing"


@pytest.mark.slow
def test_a_revision_that_never_holds_leaves_the_plan_as_it_is(scene: tuple[User, Project]) -> None:
    wrong = revises({"key": "F1", "tasks": [{"key": "T9"}]})
    made = begin(
        scene, planned(task_of("One"), task_of("Two", depends_on=[])), wrong, blocked("One"), works("Two")
    )  # fmt: skip
    session = session_run(made.id)
    (kept,) = events_of(session.id, "PlanKept")
    assert "there is no task T9 to be kept" in kept.payload["reason"]
    assert statuses(session) == {"T1": "failed", "T2": "done"}


class RevisedCut(Cut):
    """Lets the worker die as soon as a revision is handed over, before it is written down."""

    def __init__(self, session: AgentSession) -> None:
        super().__init__()
        self._session = session

    def __call__(self) -> None:
        if not self.dead:
            with psycopg.connect(**connection_parameters()) as connection:
                handed = "SELECT FROM agents_agentexecution WHERE session_id = %s AND role = %s AND result IS NOT NULL"
                if connection.execute(handed, (self._session.id, "replanner")).fetchone() is not None:
                    self.at = self.points + 1
        super().__call__()


def test_a_person_may_change_the_plan_while_it_is_looked_at(scene: tuple[User, Project]) -> None:
    """What was handed over is looked at once more on the plan as it is by then."""
    rest = [{"key": "T3"}]
    made = begin(
        scene,
        planned(task_of("One"), task_of("Two"), task_of("Three", depends_on=[])),
        revises({"key": "F1", "tasks": [{"key": "T2", "depends_on": []}, *rest, {"key": "P1"}]}, user="P1"),
        revises({"key": "F1", "tasks": [{"key": "T2", "depends_on": []}, *rest]}),
        blocked("One"), works("Two"), works("Three"), works("Added"),
    )  # fmt: skip
    session = session_run(made.id, cut=RevisedCut(made))
    plan = plan_row(session)
    before = plan_document(plan)
    added = FeatureDoc(key="PF", title="more", tasks=(TaskDoc(key="P1", title="Added"),))
    plan_revise(
        plan_id=plan.id,
        document=before.model_copy(update={"features": (*before.features, added)}),
        source=VersionSource.PERSON,
        reason="more",
    )
    lease_let_run_out(session.id)
    session = session_run(session.id)
    assert versions(session) == [(1, "planner"), (2, "person"), (3, "replan")]
    assert statuses(session) == {"T1": "failed", "T2": "done", "T3": "done", "P1": "done"}
    assert files_of(session) == {"two.txt", "three.txt", "added.txt"}


def step_of(session: AgentSession, kind: str) -> int:
    return events_of(session.id, kind)[-1].seq


def test_a_rewind_takes_a_look_back(scene: tuple[User, Project]) -> None:
    made = begin(
        scene,
        planned(task_of("One"), task_of("Two"), task_of("Three")),
        revises({"key": "F1", "tasks": [task_of("Other", replaces="T2"), {"key": "T3"}]}),
        works("One"), blocked("Two"), works("Other"), works("Three"),
    )  # fmt: skip
    ended = session_run(made.id)
    revised, left = step_of(ended, "PlanRevised"), step_of(ended, "TaskBlocked")
    session_rewind(user=scene[0], session_id=ended.id, seq=revised)
    assert statuses(ended) == {"T1": "done", "T2": "skipped", "T3": "pending", "T4": "pending"}
    assert versions(ended) == [(1, "planner"), (2, "replan")]
    session_rewind(user=scene[0], session_id=ended.id, seq=left)
    assert statuses(ended) == {"T1": "done", "T2": "failed", "T3": "blocked"}
    assert Task.objects.get(feature__plan=ended.plan_id, key="T2").result.startswith("blocked: ")
    session_resume(user=scene[0], session_id=ended.id)
    session = session_run(ended.id)
    # The same revision once more leads back to nothing: the first one was taken back.
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert versions(session) == [(1, "planner"), (2, "replan"), (3, "rewind"), (4, "replan")]
    assert files_of(session) == {"one.txt", "other.txt", "three.txt"}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_worker_may_die_at_any_point_of_a_look(scene: tuple[User, Project], part: int) -> None:
    """Wherever it dies, the session ends with the same plan, the same looks at it, and the same files."""
    same = {"key": "F1", "tasks": [task_of("Two", replaces="T2"), {"key": "T3"}]}
    other = {"key": "F1", "tasks": [task_of("Other", replaces="T2"), {"key": "T3"}]}
    paths = {"One": "one.txt", "Two": "half.txt", "Three": "three.txt", "Other": "other.txt"}
    # What was cut off in the middle is looked at, and done again.
    again = [
        entry(
            "coder",
            ("write_file", {"path": path, "content": "made\n"}),
            task=f"^Task: {title}$",
            last_result="the outcome is unknown",
        )
        for title, path in paths.items()
    ]
    entries = [
        *again,
        planned(task_of("One"), task_of("Two"), task_of("Three")),
        revises(other, last_result="go round in circles"),
        revises(same),
        *works("One"), *blocked("Two"), *works("Three"), *works("Other"),
    ]  # fmt: skip
    user, project = scene
    model = recording_write(entries)
    counted = Cut()
    reference = session_run(session_make(user, project, model).id, cut=counted)
    for at in points_taken(counted.points, part=part, parts=4, every=False):
        session = session_run(session_make(user, project, model).id, cut=Cut(at))
        lease_let_run_out(session.id)
        session = session_run(session.id)
        assert (session.status, session.outcome) == ("completed", "verified"), (at, session.reason)
        assert statuses(session) == statuses(reference), at
        assert versions(session) == versions(reference), at
        assert looks(session) == looks(reference), at
        assert files_of(session) == files_of(reference), at
        once = ("TaskStarted", "TaskCommitted", "TaskBlocked", "PhaseChanged", "PlanCreated", "SessionCompleted")
        assert [e.type for e in events_of(session.id, *once)] == [e.type for e in events_of(reference.id, *once)], at
        assert sum(role == "replanner" for role, _ in messages_of(session.id)) == sum(
            role == "replanner" for role, _ in messages_of(reference.id)
        ), at
