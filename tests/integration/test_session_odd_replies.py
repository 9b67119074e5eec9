"""A model may say anything: it is told what was wrong with it, and the session ends in a defined state."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.agents.models import AgentSession, ToolCall
from apps.agents.types import AgentType
from tests.integration.session_scene import entry, events_of, project_make, recording_write, session_make, session_run

pytestmark = pytest.mark.django_db(transaction=True)

DONE = ("finish", {"summary": "done"})


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as made:
        yield Path(made) / "repository"


def run(folder: Path, *entries: dict[str, object], agent_type: AgentType = AgentType.CODER) -> AgentSession:
    """A session of a project whose one check always passes."""
    user, project = project_make(folder, {"AGENTS.md": "Rules with a NUL: \x00\n", "data.txt": "x\n"})
    model = recording_write(entries)
    return session_run(session_make(user, project, model, agent_type=agent_type, checks=["true"]).id)


def test_texts_and_names_that_no_column_takes(folder: Path) -> None:
    odd = ("no such tool! " + "x" * 500, {"text": "\x00", "half": "\ud83d"})
    session = run(
        folder,
        entry("coder", odd, not_seen=["there is no tool named"]),
        entry("coder", ("write_file", {"path": "b.txt", "content": 1e400}), last_result="there is no tool named"),
        entry("coder", DONE, last_result="^a.txt written"),
        entry("coder", ("write_file", {"path": "a.txt", "content": "a"})),
    )
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason


def test_a_repository_s_odd_texts_do_no_harm(folder: Path) -> None:
    session = run(folder, entry("researcher", DONE), agent_type=AgentType.RESEARCHER)
    assert (session.status, session.outcome) == ("completed", "unverified"), session.reason


def test_nothing_runs_after_the_call_that_ends_the_work(folder: Path) -> None:
    late = ("write_file", {"path": "late.txt", "content": "late"})
    question = ("ask_user", {"question": "really?"})
    session = run(
        folder,
        entry("coder", ("write_file", {"path": "a.txt", "content": "a"}), not_seen=["^write_file "]),
        entry("coder", DONE, late, question, DONE),
    )
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    calls = ToolCall.objects.filter(session=session).order_by("position", "ordinal").values_list("name", "ok")
    assert list(calls)[1:] == [("finish", True), ("write_file", False), ("ask_user", False), ("finish", False)]
    (committed,) = events_of(session.id, "TaskCommitted")
    assert committed.payload["files"] == ["a.txt"]


def test_events_carry_no_whole_files(folder: Path) -> None:
    session = run(
        folder,
        entry("coder", DONE, last_tool="write_file"),
        entry("coder", ("write_file", {"path": "a.txt", "content": "long " * 100_000})),
    )
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert max(len(str(event.payload)) for event in events_of(session.id)) < 20_000
    assert len(ToolCall.objects.get(session=session, name="write_file").arguments["content"]) == 500_000
