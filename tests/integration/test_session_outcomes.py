"""What a session's result is worth is decided by all that it changed, and its branch is what was judged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession
from apps.agents.types import AgentType
from apps.projects.git import git_run
from apps.projects.repository import repository_path
from tests.integration.session_scene import (
    entry,
    events_of,
    plan_of,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("each_sandbox")]

TEST = (
    "import unittest\nimport calc\n\n\nclass AddTest(unittest.TestCase):\n"
    "    def test_add(self):\n        self.assertEqual(calc.add(2, 3), {expected})\n"
)
FILES = {"calc.py": "def add(a, b):\n    return a - b\n", "test_calc.py": TEST.format(expected=5)}
DONE = ("finish", {"summary": "done"})


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as made:
        yield Path(made) / "repository"


def write(path: str, content: str) -> tuple[str, dict[str, Any]]:
    return "write_file", {"path": path, "content": content}


def tip_of(session: AgentSession) -> str:
    git_dir = repository_path(project_id=session.project_id)
    return git_run("rev-parse", f"refs/heads/{session.branch}", git_dir=git_dir).text


def test_a_test_that_an_earlier_task_weakened_is_not_believed_later(folder: Path) -> None:
    user, project = project_make(folder, FILES)
    model = recording_write(
        [
            entry("planner", plan_of("Weaken", "Decorate")),
            entry("coder", DONE, last_tool="write_file"),
            entry("coder", write("test_calc.py", TEST.format(expected=-1)), task="^Task: Weaken"),
            entry("coder", write("NOTES.md", "fine\n"), task="^Task: Decorate"),
        ]
    )
    session = session_run(session_make(user, project, model).id)
    assert session.status == "completed"
    assert session.outcome == "failing", session.report


def test_an_attempt_that_takes_everything_back_leaves_the_branch_where_it_was(folder: Path) -> None:
    """The merge would otherwise take what an earlier attempt committed and the server refused."""
    user, project = project_make(folder, FILES)
    mended = "def add(a, b):\n    return a + b\n"
    model = recording_write(
        [
            entry("planner", plan_of("Mend", "Break")),
            entry("coder", DONE, last_tool="write_file"),
            entry("coder", write("calc.py", mended), task="^Task: Mend"),
            entry("coder", write("calc.py", mended), task="^Task: Break", user="doesn't stand yet"),
            entry("coder", write("calc.py", "broken\n"), task="^Task: Break"),
        ]
    )
    session = session_run(session_make(user, project, model).id)
    assert (session.status, session.outcome) == ("completed", "verified")
    assert tip_of(session) == session.head_commit


def test_a_file_that_is_too_large_to_keep_goes_back_to_the_coder(folder: Path) -> None:
    user, project = project_make(folder, FILES)
    model = recording_write(
        [
            entry("coder", DONE, last_tool="run_command"),
            entry("coder", ("run_command", {"command": "rm huge"}), user="huge", last_tool="write_file"),
            entry("coder", write("calc.py", "def add(a, b):\n    return a + b\n"), user="doesn't stand yet"),
            entry("coder", ("run_command", {"command": "head -c 30000000 /dev/zero > huge"})),
        ]
    )
    session = session_run(session_make(user, project, model, agent_type=AgentType.CODER).id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert len(events_of(session.id, "TaskStarted")) == 2
