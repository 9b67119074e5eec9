"""A branch whose base has moved is not merged: it is put onto the new base, checked there, and merged then."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.agents.models import AgentSession
from apps.agents.services.master_orchestrator import session_cancel, session_discard, session_merge, session_resume
from apps.agents.services.messages import message_send
from apps.agents.services.rebases import session_rebase
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steps import step_list
from apps.agents.types import SessionStatus
from apps.authentication.models import User
from apps.core.errors import Conflict
from apps.projects.models import Project
from apps.projects.repository import commit_files, commit_resolve, diff_read, repository_import_path
from apps.projects.worktree import worktree_path
from tests.api import client_for
from tests.builders import git
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
    lease_let_run_out,
    plan_of,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

FILES = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "other.py": "x = 1\n",
    "limits.txt": "most 10\n",
}
RIGHT = "def add(a, b):\n    return a + b\n"
CHECK = "grep -q 'a + b' calc.py && ! grep -q BROKEN calc.py other.py"
DONE = ("finish", {"summary": "done"})


@dataclass(frozen=True)
class Scene:
    folder: Path
    user: User
    project: Project

    def ended(self, *, cut: Cut | None = None, noted: str = "") -> AgentSession:
        """A session that has mended the file in one commit and added notes in another.

        ``noted``: what shows that the second task is done.
        """
        plan = plan_of("Mend it", "Note it")
        if noted:
            checks = [{"command": noted, "name": "noted"}]
            plan[1]["features"][0]["tasks"][1] |= {"creates": ["NOTES.md"], "checks": checks}
        model = recording_write(
            [
                entry("planner", plan),
                entry("coder", DONE, last_tool="write_file"),
                entry("coder", ("write_file", {"path": "NOTES.md", "content": "mended\n"}), task="Task: Note it"),
                entry("coder", ("write_file", {"path": "calc.py", "content": RIGHT})),
            ]
        )
        session = session_make(self.user, self.project, model, checks=[CHECK])
        return session_run(session.id, cut=cut)

    def main_moves(self, **files: str) -> str:
        """Somebody else's commit on the base branch."""
        for name, content in files.items():
            (self.folder / name.replace("_", ".")).write_text(content)
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-qm", "Somebody else's")
        roots, settings.ARCHON_REPOSITORY_ROOTS = settings.ARCHON_REPOSITORY_ROOTS, [str(self.folder)]
        try:
            return repository_import_path(project_id=self.project.id, source=str(self.folder)).head_commit
        finally:
            settings.ARCHON_REPOSITORY_ROOTS = roots

    def rebased(self, session: AgentSession) -> AgentSession:
        session_rebase(user=self.user, session_id=session.id)
        return session_run(session.id)

    def content(self, commit: str, path: str) -> str:
        return commit_files(project_id=self.project.id, commit=commit, paths=[path])[path].decode()


@pytest.fixture
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield Scene(Path(folder) / "repository", *project_make(Path(folder) / "repository", FILES))


def conflict_of(call: Any, *arguments: Any, **options: Any) -> Conflict:
    with pytest.raises(Conflict) as refused:
        call(*arguments, **options)
    return refused.value


def test_a_moved_base_is_not_merged_over_but_rebased_checked_and_merged(scene: Scene) -> None:
    session = scene.ended()
    assert (session.status, session.outcome) == ("completed", "verified")
    old_head = session.head_commit
    moved = scene.main_moves(other_py="x = 2\n")
    refused = client_for(scene.user).post(f"/api/agents/sessions/{session.id}/merge/", {})
    assert refused.status_code == 409 and refused.json()["state"] == "target_moved"
    assert "rebase" in refused.json()["next_step"]
    assert commit_resolve(project_id=scene.project.id, revision="main") == moved

    answer = client_for(scene.user).post(f"/api/agents/sessions/{session.id}/rebase/")
    assert answer.status_code == 202 and answer.json()["status"] == "running"
    # Again while it is under way: the same.
    assert client_for(scene.user).post(f"/api/agents/sessions/{session.id}/rebase/").status_code == 202
    again = session_run(session.id)
    assert (again.status, again.outcome, again.rebase, again.base_commit) == ("completed", "verified", None, moved)
    assert commit_resolve(project_id=scene.project.id, revision=again.branch) == again.head_commit != old_head
    assert scene.content(again.head_commit, "other.py") == "x = 2\n"
    assert scene.content(again.head_commit, "calc.py") == RIGHT
    # What it changes is what it changed, in as many commits.
    changes = diff_read(project_id=scene.project.id, base=again.base_commit, head=again.head_commit)
    assert [change.path for change in changes.files] == ["NOTES.md", "calc.py"]
    (told,) = events_of(session.id, "SessionRebased")
    assert (told.payload["onto"], told.payload["former_commit"], told.payload["commits"]) == (moved, old_head, 2)
    phases = [event.payload["phase"] for event in events_of(session.id, "PhaseChanged")]
    assert phases.count("rebase") == 1 and len(events_of(session.id, "SessionCompleted")) == 2

    merged = session_merge(user=scene.user, session_id=session.id)
    assert merged.merged_commit == again.head_commit == commit_resolve(project_id=scene.project.id, revision="main")
    assert conflict_of(session_rebase, user=scene.user, session_id=session.id).extra["state"] == "merged"


def test_what_no_longer_works_there_has_a_verdict_that_says_so(scene: Scene) -> None:
    session = scene.ended()
    scene.main_moves(other_py="x = 'BROKEN'\n")
    again = scene.rebased(session)
    assert (again.status, again.outcome) == ("completed", "failing")
    assert again.reason is not None and "archon say" in again.reason["next_step"]
    refused = conflict_of(session_merge, user=scene.user, session_id=session.id)
    assert "checks fail" in refused.message


def test_what_shows_that_tasks_are_done_has_to_hold_there(scene: Scene) -> None:
    """The project's checks pass on both; that is not all that was wanted."""
    session = scene.ended(noted="grep -q 10 limits.txt && test -s NOTES.md")
    assert (session.status, session.outcome) == ("completed", "verified")
    scene.main_moves(other_py="x = 2\n")
    again = scene.rebased(session)
    assert (again.status, again.outcome) == ("completed", "verified"), again.reason
    scene.main_moves(limits_txt="most 20\n")
    third = scene.rebased(again)
    assert (third.status, third.outcome) == ("completed", "failing")
    assert third.reason is not None and "task T2: its check no longer holds" in third.reason["message"]
    checked = [event.payload for event in events_of(session.id, "AcceptanceChecked")]
    assert [[each["passed"] for each in payload["checks"]] for payload in checked] == [[True], [False]]
    assert "checks fail" in conflict_of(session_merge, user=scene.user, session_id=session.id).message


def test_conflicts_are_told_by_file_and_change_nothing(scene: Scene) -> None:
    session = scene.ended()
    moved = scene.main_moves(calc_py="def add(a, b, c):\n    return a + b + c\n")
    refused = client_for(scene.user).post(f"/api/agents/sessions/{session.id}/rebase/")
    problem = refused.json()
    assert (refused.status_code, problem["state"], problem["files"]) == (409, "rebase_conflict", ["calc.py"])
    assert f"archon say {session.id}" in problem["next_step"] and problem["commit"] == moved
    same = AgentSession.objects.get(id=session.id)
    assert (same.status, same.head_commit, same.base_commit) == ("completed", session.head_commit, session.base_commit)


def test_what_the_agent_makes_room_for_is_put_on_afterwards(scene: Scene) -> None:
    """The first commit doesn't fit by itself; what all of them come to does."""
    session = scene.ended()
    both = "def add(a, b):\n    return a + b  # sum\n"
    scene.main_moves(calc_py=both)
    assert conflict_of(session_rebase, user=scene.user, session_id=session.id).extra["files"] == ["calc.py"]
    writes = ("write_file", {"path": "calc.py", "content": both})
    model = recording_write([entry("coder", DONE, last_tool="write_file"), entry("coder", writes)])
    AgentSession.objects.filter(id=session.id).update(
        role_models={role: {"model": model} for role in session.role_models}, model=model
    )
    message_send(user=scene.user, session_id=session.id, text="main has changed calc.py: make it fit")
    after = session_run(session.id)
    assert scene.content(after.head_commit, "calc.py") == both
    again = scene.rebased(after)
    assert (again.status, again.outcome) == ("completed", "verified")
    assert scene.content(again.head_commit, "NOTES.md") == "mended\n"


@pytest.mark.slow
def test_a_follow_up_after_it_is_taken_back_to_the_rebased_files(scene: Scene) -> None:
    session = scene.ended()
    scene.main_moves(other_py="x = 2\n")
    rebased = scene.rebased(session)
    writes = ("write_file", {"path": "MORE.md", "content": "more\n"})
    model = recording_write([entry("coder", DONE, last_tool="write_file"), entry("coder", writes)])
    AgentSession.objects.filter(id=session.id).update(
        role_models={role: {"model": model} for role in session.role_models}, model=model
    )
    message_send(user=scene.user, session_id=session.id, text="Note more")
    done = session_run(session.id)
    assert (done.status, done.outcome) == ("completed", "verified"), done.reason
    replied = next(step.seq for step in step_list(done) if step.event.type == "ModelReplied")
    rewound = session_rewind(user=scene.user, session_id=session.id, seq=replied)
    assert rewound.head_commit == rebased.head_commit
    assert commit_resolve(project_id=scene.project.id, revision=rewound.branch) == rebased.head_commit
    assert (worktree_path(session_id=session.id) / "other.py").read_text() == "x = 2\n"
    session_resume(user=scene.user, session_id=session.id)
    again = session_run(session.id)
    assert (again.status, again.outcome) == ("completed", "verified"), again.reason
    assert scene.content(again.head_commit, "other.py") == "x = 2\n"


def test_only_what_has_ended_and_changed_something_is_rebased(scene: Scene) -> None:
    session = scene.ended()
    # The base is where it was: nothing to do.
    assert session_rebase(user=scene.user, session_id=session.id).status == "completed"
    assert not events_of(session.id, "RebaseStarted")
    scene.main_moves(other_py="x = 3\n")
    AgentSession.objects.filter(id=session.id).update(status=SessionStatus.CANCELLED, outcome=None)
    assert conflict_of(session_rebase, user=scene.user, session_id=session.id).extra["state"] == "cancelled"
    AgentSession.objects.filter(id=session.id).update(status=SessionStatus.COMPLETED, outcome="verified")
    session_discard(user=scene.user, session_id=session.id)
    assert conflict_of(session_rebase, user=scene.user, session_id=session.id).extra["state"] == "discarded"


def test_what_the_base_has_already_leaves_nothing(scene: Scene) -> None:
    session = scene.ended()
    (scene.folder / "NOTES.md").write_text("mended\n")
    scene.main_moves(calc_py=RIGHT)
    assert conflict_of(session_rebase, user=scene.user, session_id=session.id).extra["state"] == "nothing_left"


def test_one_that_is_cancelled_leaves_a_session_that_goes_on(scene: Scene) -> None:
    session = scene.ended()
    scene.main_moves(other_py="x = 4\n")
    session_rebase(user=scene.user, session_id=session.id)
    session_cancel(user=scene.user, session_id=session.id)
    # No worker had moved the branch yet.
    message_send(user=scene.user, session_id=session.id, text="go on")
    now = AgentSession.objects.get(id=session.id)
    assert (now.base_commit, now.head_commit, now.rebase) == (session.base_commit, session.head_commit, None)


@pytest.mark.slow
def test_a_worker_may_die_anywhere_in_it(scene: Scene) -> None:
    """One verdict, one move of the branch, wherever the first worker was cut off."""
    session = scene.ended()
    moved = scene.main_moves(other_py="x = 5\n")
    session_rebase(user=scene.user, session_id=session.id)
    counted, runs = 3, 0
    while True:
        cut = Cut(at=counted)
        now = session_run(session.id, cut=cut)
        runs += 1
        if not cut.dead:
            break
        lease_let_run_out(session.id)
        counted += 7
    assert runs > 1 and (now.status, now.outcome, now.base_commit) == ("completed", "verified", moved)
    assert len(events_of(session.id, "SessionRebased")) == 1
    assert [event.seq for event in events_of(session.id)] == list(range(1, len(events_of(session.id)) + 1))
