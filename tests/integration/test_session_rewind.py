"""Taking a session back to any step: everything is as it was right after it, and the session goes on to a good end."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.agents.models import AgentSession, SessionEffect, SessionHead, ToolCall
from apps.agents.services.master_orchestrator import (
    session_resume,
)
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steps import step_list
from apps.agents.types import ToolCallStatus
from apps.authentication.models import User
from apps.planning.models import Task
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.repository import repository_path
from apps.projects.worktree import worktree_path
from apps.usage.models import Budget
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
    plan_of,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

FILES = {"calc.py": "def add(a, b):\n    return a - b\n", "old.txt": "old\n", ".gitignore": "build/\n"}
RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a * b\n"
CHECK = "grep -q 'a + b' calc.py"
DONE = ("finish", {"summary": "done"})
AGAIN = "doesn't stand yet"
SHELL = (
    "mkdir -p deep/er build && mv old.txt deep/er/new.txt && chmod +x calc.py && date +%N > build/ignored"
    " && ln -s calc.py link"
)
UNKNOWN = {"last_result": "the outcome is unknown"}


def recording() -> str:
    """Two tasks: the first changes files by a shell and by a tool, the second is wrong at first."""
    first, second = {"task": "^Task: Move"}, {"task": "^Task: Mend"}
    wrong = ("write_file", {"path": "calc.py", "content": WRONG})
    right = ("write_file", {"path": "calc.py", "content": RIGHT})
    look = ("run_command", {"command": "git status --short"})
    return recording_write(
        [
            entry(
                "coder",
                ("write_file", {"path": "SAID.md", "content": "{{wanted}}\n"}),
                user=r"Note: (?P<wanted>\w+)\s*\Z",
            ),
            entry("planner", ("read_file", {"path": "calc.py"}), ("list_files", {}), not_seen=["^read_file "]),
            entry("planner", plan_of("Move it", "Mend it")),
            entry("coder", DONE, user="The session had ended"),
            entry("coder", look, **first, **UNKNOWN),
            entry("coder", DONE, **first, last_tool="write_file"),
            entry("coder", ("write_file", {"path": "NOTES.md", "content": "adds\n"}), **first, last_tool="run_command"),
            entry("coder", ("run_command", {"command": SHELL}), **first),
            entry("coder", look, **second, **UNKNOWN),
            entry("coder", DONE, **second, last_tool="write_file", user=AGAIN),
            entry("coder", right, **second, user=AGAIN),
            entry("coder", DONE, **second, last_tool="write_file"),
            entry("coder", wrong, ("read_file", {"path": "calc.py"}), **second),
        ]
    )


@pytest.fixture
def scene() -> Iterator[tuple[User, Project, str]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield *project_make(Path(folder) / "repository", FILES), recording()


def files_of(session: AgentSession) -> dict[str, str]:
    """The files as they lie there, but for what git ignores."""
    root = worktree_path(session_id=session.id)
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and not name.startswith((".git/", "build/")):
            found[name] = f"{path.stat().st_mode & 0o111:o} {path.read_text()}"
    return found


def conversations_of(session: AgentSession) -> dict[str, Any]:
    return {
        f"{execution.role} {execution.id}": (
            execution.result,
            list(execution.messages.order_by("position").values_list("message", flat=True)),
        )
        for execution in session.executions.filter(retired=None)
    }


def tip_of(session: AgentSession) -> str:
    git_dir = repository_path(project_id=session.project_id)
    return git_run("rev-parse", f"refs/heads/{session.branch}", git_dir=git_dir, accepted=(0, 128)).text


def state_of(session_id: Any) -> dict[str, Any]:
    """All that a rewind puts back."""
    session = AgentSession.objects.get(id=session_id)
    tasks = Task.objects.filter(feature__plan_id=session.plan_id).order_by("feature__position", "position")
    return {
        "files": files_of(session),
        "conversations": conversations_of(session),
        "plan": list(tasks.values_list("title", "status", "attempts", "result", "commit")),
        "effects": set(SessionEffect.objects.filter(session=session, retired=None).values_list("key", flat=True)),
        "tip": tip_of(session),
        "session": (session.head_commit, session.checks, session.turn, session.plan_id),
    }


@dataclass
class Recorder(Cut):
    """Looks at the session after each of its worker's transactions: how all of it was right after each event."""

    session_id: Any
    states: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __call__(self) -> None:
        super().__call__()
        # The ORM is not for event loops.
        looking = threading.Thread(target=self._look)
        looking.start()
        looking.join()

    def _look(self) -> None:
        try:
            seq = SessionHead.objects.get(session_id=self.session_id).seq
            if seq not in self.states and worktree_path(session_id=self.session_id).is_dir():
                self.states[seq] = state_of(self.session_id)
        finally:
            connections.close_all()


def recorded(scene: tuple[User, Project, str], **options: Any) -> tuple[AgentSession, Recorder]:
    user, project, model = scene
    session = session_make(user, project, model, checks=[CHECK], **options)
    recorder = Recorder(session.id)
    ended = session_run(session.id, cut=recorder)
    assert (ended.status, ended.outcome) == ("completed", "verified"), ended.reason
    return ended, recorder


def whole_require(session: AgentSession, files: dict[str, str]) -> None:
    """It ended well, with nothing there twice and nothing left over."""
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert files_of(session) == files
    assert tip_of(session) == session.head_commit
    git_dir = repository_path(project_id=session.project_id)
    span = f"{session.base_commit}..{session.branch}"
    assert git_run("rev-list", "--count", span, git_dir=git_dir).text == "2"
    assert [event.seq for event in events_of(session.id)] == list(range(1, session.head.seq + 1))
    assert not ToolCall.objects.filter(session=session).exclude(status=ToolCallStatus.FINISHED).exists()
    assert set(Task.objects.filter(feature__plan_id=session.plan_id).values_list("status", flat=True)) == {"done"}
    budget = Budget.objects.get(scope_id=session.id)
    assert (budget.reserved_steps, budget.reserved_tokens) == (0, 0)
    assert budget.spent_steps == len(events_of(session.id, "ModelReplied")), "what was spent was taken back"


def every_step(scene: tuple[User, Project, str], *, part: int, parts: int) -> None:
    user = scene[0]
    session, recorder = recorded(scene)
    files = files_of(session)
    steps = step_list(session)
    kinds = {step.event.type for step in steps}
    assert kinds == {
        "ChecksFinished", "PlanCreated", "TaskStarted", "ModelReplied", "ToolFinished", "TaskVerified", "TaskCommitted",
    }  # fmt: skip
    assert len(steps) > 20
    for step in list(reversed(steps))[part::parts]:
        rewound = session_rewind(user=user, session_id=session.id, seq=step.seq)
        assert rewound.status == "paused" and rewound.reason is not None and rewound.reason["code"] == "rewound"
        assert rewound.restore is None, "the files are left to a worker"
        assert state_of(session.id) == recorder.states[step.seq], f"step {step.seq}, {step.event.type}: {step.summary}"
        assert [one.seq for one in step_list(rewound)] == [one.seq for one in steps if one.seq <= step.seq]
        session_resume(user=user, session_id=session.id)
        whole_require(session_run(session.id), files)


def test_a_session_goes_back_to_some_of_its_steps_and_on_to_its_end(scene: tuple[User, Project, str]) -> None:
    every_step(scene, part=3, parts=6)


@pytest.mark.slow
def test_a_session_goes_back_to_every_step_and_on_to_its_end(scene: tuple[User, Project, str]) -> None:
    every_step(scene, part=0, parts=1)
