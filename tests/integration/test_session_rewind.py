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

from apps.agents.models import AgentSession, SessionEffect, SessionHead, Steering, ToolCall
from apps.agents.services.master_orchestrator import (
    session_answer,
    session_cancel,
    session_discard,
    session_merge,
    session_pause,
    session_resume,
)
from apps.agents.services.messages import message_send
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steering import session_steer
from apps.agents.services.steps import step_list
from apps.agents.types import AgentType, ToolCallStatus
from apps.authentication.models import User
from apps.core.errors import Conflict, InvalidInput
from apps.planning.models import Plan, PlanStatus, Task
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.repository import repository_path
from apps.projects.worktree import session_files_delete, worktree_path
from apps.projects.worktree_snapshots import worktree_taken
from apps.usage.models import Budget
from tests.api import client_for
from tests.integration.session_scene import (
    Cut,
    Meddling,
    entry,
    events_of,
    lease_let_run_out,
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
    "mkdir -p deep/er build; [ ! -e old.txt ] || mv old.txt deep/er/new.txt; chmod +x calc.py;"
    " date +%N > build/ignored; ln -sf calc.py link"
)
UNKNOWN = {"last_result": "the outcome is unknown"}
FURTHER = "asks further"


def recording() -> str:
    """Two tasks: the first changes files by a shell and by a tool, the second is wrong at first."""
    first, second = {"task": "^Task: Move"}, {"task": "^Task: Mend"}
    wrong = ("write_file", {"path": "calc.py", "content": WRONG})
    right = ("write_file", {"path": "calc.py", "content": RIGHT})
    notes = ("write_file", {"path": "NOTES.md", "content": "adds\n"})
    said = ("write_file", {"path": "SAID.md", "content": "{{wanted}}\n"})
    shell = ("run_command", {"command": SHELL})
    return recording_write(
        [
            entry("coder", DONE, user=FURTHER, last_tool="write_file"),
            entry("coder", said, user=FURTHER + r"[\s\S]*?Note: (?P<wanted>\w+)"),
            entry("coder", DONE, user=FURTHER),
            # What is said to a coder while tasks wait has the plan looked at again.
            entry("replanner", ("keep_plan", {"reason": "It stands."})),
            entry("planner", ("read_file", {"path": "calc.py"}), ("list_files", {}), not_seen=["^read_file "]),
            entry("planner", plan_of("Move it", "Mend it")),
            entry("coder", shell, **first, **UNKNOWN, last_tool="run_command"),
            entry("coder", notes, **first, **UNKNOWN),
            entry("coder", DONE, **first, last_tool="write_file"),
            entry("coder", notes, **first, last_tool="run_command"),
            entry("coder", shell, **first),
            entry("coder", right, **second, **UNKNOWN, user=AGAIN),
            entry("coder", wrong, **second, **UNKNOWN),
            entry("coder", DONE, **second, last_tool="write_file", user=AGAIN),
            entry("coder", right, **second, user=AGAIN),
            entry("coder", DONE, **second, last_tool="write_file"),
            entry("coder", ("read_file", {"path": "calc.py"}), wrong, **second),
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
    tasks = Task.objects.filter(feature__plan=session.plan).order_by("feature__position", "position")
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
    assert set(Task.objects.filter(feature__plan=session.plan).values_list("status", flat=True)) == {"done"}
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


@pytest.mark.slow
def test_a_session_goes_back_to_some_of_its_steps_and_on_to_its_end(scene: tuple[User, Project, str]) -> None:
    every_step(scene, part=3, parts=9)


@pytest.mark.slow
def test_a_session_goes_back_to_every_step_and_on_to_its_end(scene: tuple[User, Project, str]) -> None:
    every_step(scene, part=0, parts=1)


# --- Where it meets something else ------------------------------------------------------------------------------------
def step_of(session: AgentSession, kind: str, place: int = 0) -> int:
    """The number of the ``place``-th step of this type."""
    return [step.seq for step in step_list(session) if step.event.type == kind][place]


def refused(user: User, session: AgentSession, seq: int, state: str) -> None:
    with pytest.raises(Conflict) as caught:
        session_rewind(user=user, session_id=session.id, seq=seq)
    assert caught.value.extra["state"] == state and caught.value.next_step


def test_what_the_state_rules_out_is_refused_and_the_same_again_changes_nothing(
    scene: tuple[User, Project, str],
) -> None:
    user, project, model = scene
    waiting = session_make(user, project, model, checks=[CHECK])
    refused(user, waiting, 1, "running" if waiting.status == "running" else "pending")
    session = session_run(waiting.id)
    replied = step_of(session, "ModelReplied")
    for seq in (1, replied + 1 if step_of(session, "ToolFinished") != replied + 1 else replied + 2, 10**6):
        with pytest.raises(InvalidInput) as caught:
            session_rewind(user=user, session_id=session.id, seq=seq)
        assert "steps/" in caught.value.next_step
    session_rewind(user=user, session_id=session.id, seq=replied)
    before = len(events_of(session.id))
    again = session_rewind(user=user, session_id=session.id, seq=replied)
    assert (again.rewinds, len(events_of(session.id))) == (1, before)
    session_resume(user=user, session_id=session.id)
    refused(user, session, replied, "running")
    ended = session_run(session.id)
    assert ended.outcome == "verified"
    session_merge(user=user, session_id=session.id)
    refused(user, session, replied, "merged")
    cancelled = session_make(user, project, model)
    session_cancel(user=user, session_id=cancelled.id)
    session_discard(user=user, session_id=cancelled.id)
    refused(user, cancelled, 1, "discarded")


def test_over_http(scene: tuple[User, Project, str]) -> None:
    user, project, model = scene
    session = session_run(session_make(user, project, model, checks=[CHECK]).id)
    client = client_for(user)
    address = f"/api/agents/sessions/{session.id}"
    page = client.get(f"{address}/steps/").json()
    assert page["session_status"] == "completed" and page["steps"][0]["type"] == "ChecksFinished"
    first = client.get(f"{address}/steps/?limit=2").json()
    rest = client.get(f"{address}/steps/?after={first['next_after']}").json()
    assert [*first["steps"], *rest["steps"]] == page["steps"]
    for body in ({}, {"seq": 0}, {"seq": "x"}, {"seq": 10**6}):
        assert client.post(f"{address}/rewind/", body, format="json").status_code == 400
    answer = client.post(f"{address}/rewind/", {"seq": page["steps"][3]["seq"]}, format="json")
    assert answer.status_code == 202 and answer.json()["status"] == "paused"
    assert client.get(f"{address}/steps/").json()["steps"] == page["steps"][:4]
    assert client.post(f"{address}/steer/", {"text": " "}, format="json").status_code == 400
    for _ in range(2):
        assert client.post(f"{address}/steer/", {"text": "x", "key": "k"}, format="json").status_code == 202
    assert Steering.objects.count() == 1
    other = client.post(f"{address}/steer/", {"text": "y", "key": "k"}, format="json")
    assert other.status_code == 409 and other.json()["state"] == "key_used"
    client.post(f"{address}/cancel/")
    ended = client.post(f"{address}/steer/", {"text": "x"}, format="json")
    assert ended.status_code == 409 and ended.json()["state"] == "cancelled"


@pytest.mark.slow
def test_a_worker_that_dies_while_it_puts_the_files_back_is_followed_by_another(
    scene: tuple[User, Project, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request met a worker that still had the files, so it is left to the next one; whose end comes anywhere."""
    user = scene[0]
    session, recorder = recorded(scene)
    files = files_of(session)
    monkeypatch.setattr("apps.agents.services.restoring.TAKEN_SECONDS", 0.0)
    seq = step_of(session, "ToolFinished", 4)
    put_back = set()
    for at in range(1, 34, 8):
        with worktree_taken(session.id, seconds=1) as taken:
            assert taken
            assert session_rewind(user=user, session_id=session.id, seq=seq).restore is not None
        session_resume(user=user, session_id=session.id)
        died = session_run(session.id, cut=Cut(at))
        put_back.add(died.restore is None)
        if died.restore is None:
            assert files_of(died) == recorder.states[seq]["files"]
        lease_let_run_out(session.id)
        whole_require(session_run(session.id), files)
    assert put_back == {True, False}


@pytest.mark.slow
def test_a_checkout_that_is_gone_is_made_anew_as_it_was(scene: tuple[User, Project, str]) -> None:
    user = scene[0]
    session, recorder = recorded(scene)
    files = files_of(session)
    seq = step_of(session, "ToolFinished", 5)
    session_files_delete(session_id=session.id)
    rewound = session_rewind(user=user, session_id=session.id, seq=seq)
    assert rewound.restore is not None and tip_of(rewound) == recorder.states[seq]["tip"]
    session_resume(user=user, session_id=session.id)
    whole_require(session_run(session.id), files)


def test_a_question_is_asked_again_after_it_was_taken_back(scene: tuple[User, Project, str]) -> None:
    user, project, _ = scene
    ask = ("ask_user", {"question": "Which?"})
    note = ("write_file", {"path": "SAID.md", "content": "{{wanted}}"})
    model = recording_write(
        [
            entry("coder", DONE, last_tool="write_file"),
            entry("coder", note, last_tool="ask_user", last_result=r"(?P<wanted>\w+)"),
            entry("coder", ask),
        ]
    )
    session = session_run(session_make(user, project, model, agent_type=AgentType.CODER, checks=["true"]).id)
    assert session.status == "waiting_input"
    question = ToolCall.objects.get(session=session, name="ask_user")
    session_rewind(user=user, session_id=session.id, seq=step_of(session, "ModelReplied"))
    with pytest.raises(Conflict):
        session_answer(user=user, session_id=session.id, question_id=question.id, answer="first")
    session_resume(user=user, session_id=session.id)
    assert session_run(session.id).status == "waiting_input"
    again = ToolCall.objects.get(session=session, name="ask_user", status=ToolCallStatus.WAITING)
    assert again.id != question.id
    session_answer(user=user, session_id=session.id, question_id=again.id, answer="second")
    assert session_run(session.id).status == "completed"
    assert (worktree_path(session_id=session.id) / "SAID.md").read_text() == "second"


@pytest.mark.slow
def test_a_follow_up_is_taken_back_and_another_one_takes_its_place(scene: tuple[User, Project, str]) -> None:
    user = scene[0]
    session, recorder = recorded(scene)
    last = step_list(session)[-1].seq
    message_send(user=user, session_id=session.id, text="Say.\nNote: first", key="one")
    watching = Recorder(session.id)
    ended = session_run(session.id, cut=watching)
    assert (ended.status, ended.turn) == ("completed", 1), ended.reason
    inner = [step for step in step_list(ended) if step.turn == 1]
    assert inner and inner[-1].event.type == "TaskCommitted"
    # Within the follow-up, and then to before it.
    for step in (inner[-3], inner[1]):
        session_rewind(user=user, session_id=session.id, seq=step.seq)
        assert state_of(session.id) == watching.states[step.seq], step
        session_resume(user=user, session_id=session.id)
        assert session_run(session.id).outcome == ended.outcome
    rewound = session_rewind(user=user, session_id=session.id, seq=last)
    assert (rewound.turn, state_of(session.id)) == (0, recorder.states[last])
    session_resume(user=user, session_id=session.id)
    assert session_run(session.id).turn == 0
    message_send(user=user, session_id=session.id, text="Say.\nNote: second", key="one")
    again = session_run(session.id)
    assert (again.status, again.turn) == ("completed", 2), again.reason
    assert (worktree_path(session_id=session.id) / "SAID.md").read_text() == "second\n"


@pytest.mark.slow
def test_a_plan_is_withdrawn_and_another_one_made(scene: tuple[User, Project, str]) -> None:
    user = scene[0]
    session, _ = recorded(scene)
    files = files_of(session)
    session_rewind(user=user, session_id=session.id, seq=step_of(session, "ChecksFinished"))
    session_resume(user=user, session_id=session.id)
    whole_require(session_run(session.id), files)
    plans = {plan.status: plan.id for plan in Plan.objects.filter(project=session.project)}
    assert set(plans) == {PlanStatus.DONE, PlanStatus.WITHDRAWN} and plans[PlanStatus.WITHDRAWN] == session.plan_id


@pytest.mark.slow
def test_what_was_said_is_taken_back_with_the_steps_in_which_it_was_heard(scene: tuple[User, Project, str]) -> None:
    user, project, model = scene
    session = session_make(user, project, model, checks=[CHECK])
    session_steer(user=user, session_id=session.id, text="Said early.")
    session = session_run(session.id)
    assert Steering.objects.get().delivered_seq is not None
    # Said before the step and heard after it: it waits again.
    session_rewind(user=user, session_id=session.id, seq=step_of(session, "ChecksFinished"))
    early = Steering.objects.get()
    assert early.delivered_seq is None and early.retired is None
    session_steer(user=user, session_id=session.id, text="Said at the pause.")
    session_resume(user=user, session_id=session.id)
    session = session_run(session.id)
    assert not Steering.objects.filter(delivered_seq=None).exists()
    # Said after the step and heard after it: it goes. What nobody has heard stays.
    planned = step_of(session, "ModelReplied")
    session_rewind(user=user, session_id=session.id, seq=planned)
    session_steer(user=user, session_id=session.id, text="Not heard.")
    session_rewind(user=user, session_id=session.id, seq=step_of(session, "ChecksFinished"))
    standing = {said.text: (said.delivered_seq, said.retired) for said in Steering.objects.all()}
    assert standing["Not heard."] == (None, None)
    head = SessionHead.objects.get(session=session)
    assert head.steering == Steering.objects.filter(delivered_seq=None, retired=None).count()
    session_resume(user=user, session_id=session.id)
    assert session_run(session.id).outcome == "verified"


@pytest.mark.slow
def test_a_pause_in_the_middle_of_a_call_leaves_it_stopped(scene: tuple[User, Project, str]) -> None:
    """The calls of a session that was paused anywhere are finished or stopped, and it goes on to the same end."""
    user = scene[0]
    session, _ = recorded(scene)
    files = files_of(session)
    model = session.model
    for at in range(20, 120, 17):
        other = session_make(user, session.project, model, checks=[CHECK])
        session_run(other.id, cut=Meddler(at, lambda: session_pause(user=user, session_id=other.id)))  # noqa: B023
        paused = AgentSession.objects.get(id=other.id)
        assert paused.status in ("paused", "completed")
        statuses = set(ToolCall.objects.filter(session=other).values_list("status", flat=True))
        assert statuses <= {"finished", "stopped"}, statuses
        if paused.status == "paused":
            assert events_of(other.id)[-1].type == "SessionPaused"
            session_resume(user=user, session_id=other.id)
            paused = session_run(other.id)
        assert (paused.outcome, files_of(paused)) == ("verified", files)


class Meddler(Meddling):
    """Does something at a point of the run, as another process would."""

    def __init__(self, at: int, act: Any) -> None:
        super().__init__()
        self._when, self._act = at, act

    def __call__(self) -> None:
        super().__call__()
        if self.points == self._when:
            self.meddle(self._try)

    def _try(self) -> None:
        try:
            self._act()
        except Conflict as error:
            assert error.extra["state"] in ("completed", "pending")


def steered_at(scene: tuple[User, Project, str], at: int) -> AgentSession:
    """A session to which something is said at this point of its run, up to its end."""
    user, project, model = scene
    session = session_make(user, project, model, checks=[CHECK])
    said: list[bool] = []

    def steer() -> None:
        session_steer(user=user, session_id=session.id, text="Mind the gap.")
        said.append(True)

    session_run(session.id, cut=Meddler(at, steer))
    while AgentSession.objects.get(id=session.id).status == "running":
        session_run(session.id)
    ended = AgentSession.objects.get(id=session.id)
    assert ended.status == "completed", ended.reason
    heard = [
        message
        for execution in ended.executions.all()
        for message in execution.messages.values_list("message", flat=True)
        # Whoever looks at the plan again is told once more what agents at work have heard.
        if "Mind the gap." in str(message["data"]["content"]) and "Look at the plan again" not in str(message)
    ]
    assert len(heard) == len(said), f"said {len(said)} times and heard {len(heard)} times at point {at}"
    assert len(events_of(session.id, "SteeringDelivered")) == len(said)
    assert SessionHead.objects.get(session=session).steering == 0
    return ended


@pytest.mark.slow
def test_what_is_said_at_any_point_is_heard_once(scene: tuple[User, Project, str]) -> None:
    """The last ones come when no call of the model follows: the session goes on with them as a follow-up."""
    counting = Cut()
    user, project, model = scene
    session_run(session_make(user, project, model, checks=[CHECK]).id, cut=counting)
    points = counting.points
    turns = [steered_at(scene, at).turn for at in (points // 2, points - 12, points - 2)]
    assert 0 in turns and 1 in turns, turns


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_is_said_at_many_points_is_heard_once(scene: tuple[User, Project, str]) -> None:
    counting = Cut()
    user, project, model = scene
    session_run(session_make(user, project, model, checks=[CHECK]).id, cut=counting)
    for at in [*range(5, counting.points - 10, 12), *range(counting.points - 10, counting.points + 1, 3)]:
        steered_at(scene, at)
