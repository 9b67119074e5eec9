"""A worker may die anywhere while tasks are worked on side by side: what is done is not lost, nothing happens twice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession
from apps.agents.services.sessions import GRAPH_VERSION
from apps.authentication.models import User
from apps.projects.models import Project
from tests.integration.lanes_scene import CHECK, DONE, FILES, UNKNOWN, conflicting, content_of, two, whole_require
from tests.integration.session_scene import (
    Cut,
    entry,
    lease_let_run_out,
    points_taken,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(3600), pytest.mark.slow]

BOTH = ("run_command", {"command": "cat a.txt b.txt > c.txt"})
_LAST = {"task": "^Task: Join"}
#: Two tasks and one that needs both, which reads what they have left.
APART = [
    *two(then="Join"),
    entry("coder", BOTH, **_LAST, **UNKNOWN),
    entry("coder", DONE, **_LAST, last_tool="run_command"),
    entry("coder", BOTH, **_LAST),
]


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def apart_require(session: AgentSession) -> None:
    files = {"a.txt": "a\n", "b.txt": "b\n", "c.txt": "a\nb\n"}
    whole_require(session, files, "Write a", "Write b", "Join")


def conflict_require(session: AgentSession) -> None:
    whole_require(session, {}, "First", "Second")
    found = content_of(session, "numbers.txt").splitlines()
    assert sorted(line for line in found if "four" in line) == ["four erste", "four zweite"] and len(found) == 8


def cut_and_finish(user: User, project: Project, model: str, cuts: Sequence[int], *, rewired: bool) -> AgentSession:
    """The session, taken up by workers each of which dies at such a point of its run, and then by one that doesn't."""
    session = session_make(user, project, model, checks=[CHECK], lanes=2)
    for at in cuts:
        died = session_run(session.id, cut=Cut(at))
        if died.status == "completed":
            return died
        lease_let_run_out(session.id)
        if rewired:
            AgentSession.objects.filter(id=session.id).update(graph_version=GRAPH_VERSION + 1)
    return session_run(session.id)


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("kind", ["apart", "conflict"])
def test_a_worker_may_die_at_every_point(
    scene: tuple[User, Project], kind: str, part: int, pytestconfig: pytest.Config
) -> None:
    """A twelfth of the points, another one with each seed; all of them with ``--every``."""
    entries: Sequence[Mapping[str, Any]] = APART if kind == "apart" else conflicting()
    require = apart_require if kind == "apart" else conflict_require
    model = recording_write(entries)
    counting = Cut()
    user, project = scene
    require(session_run(session_make(user, project, model, checks=[CHECK], lanes=2).id, cut=counting))
    for at in points_taken(counting.points, part=part, parts=2, every=pytestconfig.getoption("--every")):
        require(cut_and_finish(user, project, model, [at], rewired=at // 2 % 2 == 0))


def test_one_worker_after_another_dies(scene: tuple[User, Project]) -> None:
    """Each gets a little further than the one before it."""
    user, project = scene
    session = cut_and_finish(user, project, recording_write(conflicting()), [70, 50, 45, 40, 35, 60, 80], rewired=False)
    conflict_require(session)
