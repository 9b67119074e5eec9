"""A worker may die between any two of its writes: another one finishes, nothing is lost and nothing happens twice."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from apps.agents.models import AgentSession, SessionEffect, ToolCall
from apps.agents.services.sessions import GRAPH_VERSION
from apps.agents.types import ToolCallStatus
from apps.authentication.models import User
from apps.core.database import AsyncDatabase
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.repository import repository_path
from apps.usage.models import Budget, ModelCall
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
    executor_open,
    lease_let_run_out,
    messages_of,
    plan_of,
    points_taken,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

T = TypeVar("T")

RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a * b\n"
FILES = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "test_calc.py": (
        "import unittest\nimport calc\n\n\nclass AddTest(unittest.TestCase):\n"
        "    def test_add(self):\n        self.assertEqual(calc.add(2, 3), 5)\n"
    ),
}
UNKNOWN = "the outcome is unknown"
AGAIN = "doesn't stand yet"


def recording() -> str:
    """A model that plans two tasks, gets the second one wrong at first, and looks again where an outcome is unknown."""
    describe, mend = {"task": "^Task: Describe"}, {"task": "^Task: Mend"}
    notes = ("write_file", {"path": "NOTES.md", "content": "adds\n"})
    wrong = ("write_file", {"path": "calc.py", "content": WRONG})
    right = ("write_file", {"path": "calc.py", "content": RIGHT})
    tests = ("run_command", {"command": "python3 -m unittest -q"})
    done = ("finish", {"summary": "done"})
    lost = {"last_result": UNKNOWN}
    return recording_write(
        [
            entry("planner", ("read_file", {"path": "calc.py"}), ("list_files", {}), not_seen=["^read_file "]),
            entry("planner", plan_of("Describe it", "Mend it")),
            entry("coder", notes, **describe, **lost),
            entry("coder", done, **describe, last_tool="write_file"),
            entry("coder", notes, **describe),
            entry("coder", right, **mend, **lost, last_tool="write_file", user=AGAIN),
            entry("coder", wrong, **mend, **lost, last_tool="write_file"),
            entry("coder", tests, **mend, **lost, last_tool="run_command"),
            entry("coder", done, **mend, last_tool="run_command", user=AGAIN),
            entry("coder", tests, **mend, last_tool="write_file", user=AGAIN),
            entry("coder", right, **mend, user=AGAIN),
            entry("coder", done, **mend, last_tool="write_file"),
            entry("coder", wrong, **mend),
        ]
    )


@pytest.fixture
def scene() -> Iterator[tuple[User, Project, str]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        user, project = project_make(Path(folder) / "repository", FILES)
        yield user, project, recording()


def conversation(session_id: Any) -> list[tuple[Any, ...]]:
    """What was said, without ids, times, and the calls whose outcome was unknown."""
    said: list[tuple[Any, ...]] = []
    for role, message in messages_of(session_id):
        data = message["data"]
        if message["type"] == "tool" and UNKNOWN in data["content"]:
            # With the reply that proposed it: the model looked, and proposed it again.
            said.pop()
            continue
        calls = [(call["name"], call["args"]) for call in data.get("tool_calls", ())]
        content = data["content"] if message["type"] != "tool" else data["content"].partition("\n[exit code")[0]
        said.append((role, message["type"], _timeless(content), calls))
    return said


def _timeless(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(line for line in lines if not line.startswith("Ran ") and " in 0." not in line)


def tree_of(session: AgentSession) -> str:
    git_dir = repository_path(project_id=session.project_id)
    tip = git_run("rev-parse", f"refs/heads/{session.branch}", git_dir=git_dir).text
    assert tip == session.head_commit
    return git_run("rev-parse", f"{tip}^{{tree}}", git_dir=git_dir).text


def commits_of(session: AgentSession) -> int:
    git_dir = repository_path(project_id=session.project_id)
    span = f"{session.base_commit}..refs/heads/{session.branch}"
    return int(git_run("rev-list", "--count", span, git_dir=git_dir).text)


def whole_require(session: AgentSession, reference: AgentSession) -> None:
    """The session ended as the one that nobody interrupted did."""
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert tree_of(session) == tree_of(reference)
    assert commits_of(session) == commits_of(reference) == 2
    events = events_of(session.id)
    assert [event.seq for event in events] == list(range(1, session.head.seq + 1))
    once = ("PlanCreated", "TaskCommitted", "TaskVerified", "ChecksFinished", "TaskStarted", "SessionCompleted")
    told = [(event.type, event.payload.get("task", "")) for event in events if event.type in once]
    expected = [event.type for event in events_of(reference.id, *once)]
    assert [kind for kind, _ in told] == expected
    started = [event.payload["call"] for event in events if event.type == "ToolStarted"]
    finished = [event.payload["call"] for event in events if event.type == "ToolFinished"]
    assert started == finished and len(set(started)) == len(started)
    assert not ToolCall.objects.filter(session=session).exclude(status=ToolCallStatus.FINISHED).exists()
    assert conversation(session.id) == conversation(reference.id)
    assert len(events_of(session.id, "ModelReplied")) == sum(
        message["type"] == "ai" for _, message in messages_of(session.id)
    )
    budget = Budget.objects.get(scope_id=session.id)
    assert (budget.reserved_steps, budget.reserved_tokens) == (0, 0)
    assert not ModelCall.objects.filter(budget_id=session.id, state="reserved").exists()
    keys = list(SessionEffect.objects.filter(session=session).values_list("key", flat=True))
    assert len(keys) == SessionEffect.objects.filter(session=reference).count()


def cut_and_finish(user: User, project: Project, model: str, at: int, *, rewired: bool = False) -> AgentSession:
    session = session_make(user, project, model)
    cut = Cut(at)
    session_run(session.id, cut=cut)
    assert cut.dead
    lease_let_run_out(session.id)
    if rewired:
        AgentSession.objects.filter(id=session.id).update(graph_version=GRAPH_VERSION + 1)
    return session_run(session.id)


def uninterrupted(user: User, project: Project, model: str) -> tuple[AgentSession, int]:
    """The session that all are compared with, and how many points it has at which it could have died."""
    session_run(session_make(user, project, model).id)  # the environment is there from now on
    counting = Cut()
    return session_run(session_make(user, project, model).id, cut=counting), counting.points


@pytest.mark.slow
def test_a_worker_that_dies_anywhere_is_followed_by_another(scene: tuple[User, Project, str]) -> None:
    """A few of the points, spread over the run; the slow test below takes each."""
    reference, points = uninterrupted(*scene)
    whole_require(reference, reference)
    for at in range(3, points, max(1, points // 3)):
        whole_require(cut_and_finish(*scene, at), reference)


class BlipDatabase(AsyncDatabase):
    """A database that goes away whenever a reply or a tool's result is written for the first time."""

    def __init__(self, *, committed: bool) -> None:
        super().__init__()
        self.blips = 0
        self._committed = committed

    async def keep(self, write: Callable[[bool], Awaitable[T]]) -> T:
        async def broken_first(again: bool) -> T:
            if not again:
                self.blips += 1
                if self._committed:
                    await write(False)
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            return await write(again)

        return await super().keep(broken_first)


@pytest.mark.slow
@pytest.mark.parametrize("committed", [False, True])
def test_a_database_that_goes_away_for_a_moment_costs_nothing(
    scene: tuple[User, Project, str], monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """No reply is asked for twice, and no outcome becomes unknown, whether or not the commit had succeeded."""
    monkeypatch.setattr("apps.core.database.KEEP_AGAIN_SECONDS", 0.0)
    reference, _ = uninterrupted(*scene)
    session = session_make(*scene)
    database = BlipDatabase(committed=committed)

    async def main() -> None:
        async with executor_open(database) as executor:
            await executor.session_execute(session.id)

    asyncio.run(main())
    session = AgentSession.objects.select_related("head").get(id=session.id)
    whole_require(session, reference)
    calls = ModelCall.objects.filter(budget_id=session.id)
    results = ToolCall.objects.filter(session=session)
    assert database.blips == calls.count() + results.count()
    assert set(calls.values_list("state", "attempt")) == {("settled", 1)}
    assert not results.filter(observation__contains=UNKNOWN).exists()
    assert session.head.claims == 1


@pytest.mark.slow
def test_a_session_of_another_wiring_goes_on_from_its_rows(scene: tuple[User, Project, str]) -> None:
    """Its checkpoint is a cursor into a graph that is no more."""
    reference, points = uninterrupted(*scene)
    for at in range(8, points, max(1, points // 6)):
        session = cut_and_finish(*scene, at, rewired=True)
        whole_require(session, reference)
        assert session.graph_version == GRAPH_VERSION


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(2))
def test_a_worker_may_die_at_every_point(
    scene: tuple[User, Project, str], part: int, pytestconfig: pytest.Config
) -> None:
    """A twelfth of the points, another one with each seed; all of them with ``--every``."""
    reference, points = uninterrupted(*scene)
    whole_require(reference, reference)
    for at in points_taken(points, part=part, parts=2, every=pytestconfig.getoption("--every")):
        whole_require(cut_and_finish(*scene, at, rewired=at // 4 % 2 == 0), reference)
