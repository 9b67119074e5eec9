"""A plan is looked at again when something has happened that what has not started may have to follow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession
from apps.authentication.models import User
from apps.planning.models import PlanVersion, Task
from apps.projects.models import Project
from tests.integration.replan_scene import (
    blocked,
    fails,
    files_of,
    keeps,
    looks,
    planned,
    revises,
    scene_make,
    statuses,
    task_of,
    versions,
    works,
)
from tests.integration.session_scene import events_of, recording_write, session_make, session_run

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
