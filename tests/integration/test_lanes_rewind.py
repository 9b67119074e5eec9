"""Taking a session back to any step while tasks were worked on side by side: each of them is as it was at that step."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.agents.models import AgentSession, SessionEffect, SessionEvent
from apps.agents.services.master_orchestrator import session_pause, session_resume
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steps import step_list
from apps.authentication.models import User
from apps.planning.models import Task
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.worktree import worktree_path
from tests.integration.lanes_scene import (
    CHECK,
    FILES,
    conflicting,
    content_of,
    git_dir_of,
    subjects_of,
    tip_of,
    two,
    whole_require,
)
from tests.integration.session_scene import (
    Cut,
    Meddling,
    events_of,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(3600), pytest.mark.slow]


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


@dataclass
class Expected:
    """How things stood at a step, by the events up to it alone."""

    #: By title: `pending`, `running`, `done`.
    tasks: dict[str, str] = field(default_factory=dict)
    #: The last commit that was merged; empty: none.
    tip: str = ""
    #: What each task's agent has written so far, by its title.
    written: dict[str, set[str]] = field(default_factory=dict)

    @property
    def under_way(self) -> list[str]:
        return [title for title, status in self.tasks.items() if status == "running"]


def expected_at(events: list[SessionEvent], seq: int, titles: Mapping[str, str]) -> Expected:
    """``titles``: of the tasks, by their ids."""
    expected = Expected()
    calls: dict[str, str] = {}
    for event in events:
        if event.seq > seq:
            break
        payload = event.payload
        if event.type == "PlanCreated":
            expected.tasks = dict.fromkeys(titles.values(), "pending")
        elif event.type == "TaskStarted":
            expected.tasks[titles[payload["task"]]] = "running"
        elif event.type == "TaskCommitted":
            expected.tasks[titles[payload["task"]]] = "done"
            expected.tip = payload["commit"]
        elif event.type == "ToolStarted" and payload["name"] == "write_file":
            calls[payload["call"]] = payload["arguments"]["path"]
        elif event.type == "ToolFinished" and payload["call"] in calls:
            path = calls[payload["call"]]
            title = next(title for title in titles.values() if title.endswith(path.partition(".")[0]))
            expected.written.setdefault(title, set()).add(path)
    return expected


@dataclass
class Watcher(Cut):
    """Looks at each lane's files when it is opened after a rewind, before anything is done there."""

    session_id: Any
    seen: dict[str, set[str]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __call__(self) -> None:
        super().__call__()
        looking = threading.Thread(target=self._look)
        looking.start()
        looking.join()

    def _look(self) -> None:
        try:
            session = AgentSession.objects.get(id=self.session_id)
            ending = f"@{session.rewinds}"
            opened = SessionEffect.objects.filter(session=session, retired=None, key__startswith="restored:")
            for key in opened.values_list("key", flat=True):
                task = Task.objects.get(id=key.removeprefix("restored:").removesuffix(ending))
                if key.endswith(ending) and task.title not in self.seen:
                    root = worktree_path(session_id=session.id, name=f"task-{task.key}")
                    found = {path.name for path in root.iterdir()} - {".git", *FILES}
                    self.seen[task.title] = found
                    branch = f"refs/heads/{session.branch}.{task.key}"
                    self.branches[task.title] = git_run("rev-parse", branch, git_dir=git_dir_of(session)).text
        finally:
            connections.close_all()


def test_a_session_goes_back_to_every_step_and_on_to_its_end(scene: tuple[User, Project]) -> None:
    user, project = scene
    files = {"a.txt": "a\n", "b.txt": "b\n"}
    session = session_run(session_make(user, project, recording_write(two()), checks=[CHECK], lanes=2).id)
    whole_require(session, files, "Write a", "Write b")
    events, steps = events_of(session.id), step_list(session)
    titles = {str(task.id): task.title for task in Task.objects.filter(feature__plan=session.plan)}
    both = [step for step in steps if len(expected_at(events, step.seq, titles).under_way) == 2]
    assert len(both) > 4, "they were hardly ever both under way"
    for step in reversed(steps):
        at = expected_at(events, step.seq, titles)
        rewound = session_rewind(user=user, session_id=session.id, seq=step.seq)
        assert rewound.status == "paused" and tip_of(rewound) == (at.tip or session.base_commit), step
        assert rewound.head_commit == at.tip, step
        if at.tasks:
            stand = dict(Task.objects.filter(feature__plan=rewound.plan).values_list("title", "status"))
            assert stand == at.tasks, step
        session_resume(user=user, session_id=session.id)
        watcher = Watcher(session.id)
        ended = session_run(session.id, cut=watcher)
        whole_require(ended, files, "Write a", "Write b")
        for title in at.under_way:
            assert watcher.seen[title] == at.written.get(title, set()), step
        events, titles = events_of(session.id), {**titles}
        titles |= {str(task.id): task.title for task in Task.objects.filter(feature__plan=ended.plan)}


def test_back_to_before_a_conflict_and_to_after_it(scene: tuple[User, Project]) -> None:
    user, project = scene
    session = session_run(session_make(user, project, recording_write(conflicting()), checks=[CHECK], lanes=2).id)
    whole_require(session, {}, "First", "Second")
    [conflict] = events_of(session.id, "MergeConflicted")
    steps = [step.seq for step in step_list(session)]
    after, before = [seq for seq in steps if seq > conflict.seq], [seq for seq in steps if seq < conflict.seq]
    for seq in (after[2], after[0], before[-1], before[-2], before[-6]):
        session_rewind(user=user, session_id=session.id, seq=seq)
        session_resume(user=user, session_id=session.id)
        ended = session_run(session.id)
        whole_require(ended, {}, "First", "Second")
        found = content_of(ended, "numbers.txt").splitlines()
        assert sorted(line for line in found if "four" in line) == ["four erste", "four zweite"], seq


class Pauser(Meddling):
    """Pauses the session at a point of its run."""

    def __init__(self, at: int, user: User, session_id: Any) -> None:
        super().__init__()
        self._when, self._user, self._session_id = at, user, session_id

    def __call__(self) -> None:
        super().__call__()
        if self.points == self._when:
            self.meddle(lambda: session_pause(user=self._user, session_id=self._session_id))


def test_a_pause_in_the_middle_ends_all_lanes_at_once(scene: tuple[User, Project]) -> None:
    user, project = scene
    model = recording_write(two())
    counting = Cut()
    session = session_make(user, project, model, checks=[CHECK], lanes=2)
    session_run(session.id, cut=counting)
    for at in range(counting.points // 3, counting.points - 25, counting.points // 6):
        session = session_make(user, project, model, checks=[CHECK], lanes=2)
        session_run(session.id, cut=Pauser(at, user, session.id))
        paused = AgentSession.objects.get(id=session.id)
        assert paused.status == "paused"
        assert events_of(session.id)[-1].type == "SessionPaused"
        session_resume(user=user, session_id=session.id)
        whole_require(session_run(session.id), {"a.txt": "a\n", "b.txt": "b\n"}, "Write a", "Write b")
    assert subjects_of(AgentSession.objects.get(id=session.id))
