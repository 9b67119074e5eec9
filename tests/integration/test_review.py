"""A reviewer reads what passed its checks: findings are mended, or a person decides; nothing of it is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession, SessionEffect
from apps.agents.selectors import question_get
from apps.agents.services.master_orchestrator import session_answer, session_cancel, session_resume
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steps import step_list
from apps.agents.types import Review
from apps.authentication.models import User
from apps.planning.models import Task, TaskStatus
from apps.projects.models import Project
from apps.projects.services import project_update
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
    lease_let_run_out,
    messages_of,
    points_taken,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

FILES = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "test_calc.py": (
        "import unittest\nimport calc\n\n\nclass AddTest(unittest.TestCase):\n"
        "    def test_add(self):\n        self.assertEqual(calc.add(2, 3), 5)\n"
    ),
}
#: Passes the tests, and is wrong.
HASTY = "def add(a, b):\n    return abs(a + b)\n"
RIGHT = "def add(a, b):\n    return a + b\n"
FINDING: dict[str, Any] = {
    "path": "calc.py",
    "line": 2,
    "severity": "critical",
    "comment": "sums below zero lose their sign",
}
TRIFLE: dict[str, Any] = {"path": "calc.py", "line": 2, "severity": "minor", "comment": "no docstring"}
DONE = ("finish", {"summary": "done"})
UNKNOWN = "the outcome is unknown"


def plan(*tasks: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The call by which a planner hands over a feature of these tasks."""
    return "submit_plan", {
        "summary": "the plan",
        "features": [{"title": "all", "tasks": [dict(each) for each in tasks]}],
    }


def write(content: str, path: str = "calc.py") -> tuple[str, dict[str, Any]]:
    return "write_file", {"path": path, "content": content}


def review(*findings: Mapping[str, Any], **more: Any) -> tuple[str, dict[str, Any]]:
    return "submit_review", {"summary": "looked", "findings": [dict(each) for each in findings], **more}


def coder(content: str = HASTY, mended: str = RIGHT) -> list[dict[str, Any]]:
    """A coder that is hasty at first, and right when a reviewer has said so."""
    return [
        entry("coder", write(mended), last_result=UNKNOWN, user="a reviewer has read it"),
        entry("coder", write(content), last_result=UNKNOWN),
        entry("coder", DONE, last_tool="write_file"),
        entry("coder", write(mended), user="a reviewer has read it"),
        entry("coder", write(content)),
    ]


MEND = {"title": "Mend it", "checks": [{"command": "test -s calc.py", "name": "it is there"}]}
REVIEWER = [
    entry("reviewer", review(resolved=["1.1"], unresolved=["1.2"]), task="Found in earlier reviews"),
    entry("reviewer", review(FINDING, TRIFLE), last_result="changed lines are 2"),
    entry("reviewer", review({**FINDING, "line": 1}), last_tool="read_file"),
    entry("reviewer", ("read_file", {"path": "calc.py"})),
]
#: One that is never content.
STUBBORN = [
    entry("reviewer", review(unresolved=["1.1"]), task="Found in earlier reviews"),
    entry("reviewer", review(FINDING)),
]


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def recording(*entries: dict[str, Any]) -> str:
    return recording_write([entry("planner", plan(MEND)), *(entries or (*REVIEWER, *coder()))])


def reviewed(user: User, project: Project, model: str) -> AgentSession:
    return session_run(session_make(user, project, model, review=Review.AUTO).id)


def task_of(session: AgentSession) -> Task:
    return Task.objects.get(session_id=session.id)


def verdicts(session: AgentSession) -> list[tuple[int, str]]:
    return [(event.payload["round"], event.payload["verdict"]) for event in events_of(session.id, "ReviewFinished")]


def said_to(session: AgentSession, role: str) -> str:
    return "\n".join(str(message["data"]["content"]) for who, message in messages_of(session.id) if who == role)


def test_a_finding_goes_back_to_the_coder_and_is_mended(scene: tuple[User, Project]) -> None:
    session = reviewed(*scene, recording())
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert verdicts(session) == [(1, "findings"), (2, "passed")]
    task = task_of(session)
    assert (task.status, task.attempts) == (TaskStatus.DONE, 2)
    assert [(f["id"], f["line"], f["severity"], f["resolved"]) for f in task.findings] == [
        ("1.1", 2, "critical", True),
        ("1.2", 2, "minor", False),
    ]
    assert [(check["name"], check["passed"], check["exit_code"]) for check in task.check_results] == [
        ("it is there", True, 0)
    ]
    told = said_to(session, "reviewer")
    assert "     2 +    return abs(a + b)" in told and "it is there (`test -s calc.py`): passed" in told
    # One beside the change was handed back, with the lines that are not.
    assert "line 1 of calc.py is not changed; changed lines are 2" in told
    assert "What has changed since the last review" in told and "[1.1] calc.py:2 (critical)" in told
    assert FINDING["comment"] in said_to(session, "coder")
    keys = set(SessionEffect.objects.filter(session=session).values_list("key", flat=True))
    assert {f"review:{task.id}:1", f"review:{task.id}:2", f"retry:{task.id}:1"} <= keys


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        pytest.param("give the task up", "failed", [(1, "unresolved")], id="give up"),
        pytest.param("accept it", "done", [(1, "unresolved")], id="accept", marks=pytest.mark.slow),
        pytest.param(
            "look at negative numbers", "done", [(1, "unresolved"), (2, "passed")], id="own words",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_after_the_rounds_a_person_decides(
    scene: tuple[User, Project], answer: str, status: str, expected: list[tuple[int, str]]
) -> None:
    user, project = scene
    project = project_update(project=project, agents={"reviewer": {"rounds": 0}}, review="always")
    reviewer = REVIEWER if "negative" in answer else STUBBORN
    model = recording(entry("reviewer", review(FINDING), not_seen=["earlier reviews"]), *reviewer[:1], *coder())
    session = session_run(session_make(user, project, model, review=Review.AUTO).id)
    assert session.status == "waiting_input", session.reason
    question = question_get(session_id=session.id)
    assert question is not None and FINDING["comment"] in question.arguments["question"]
    assert question.arguments["choices"][2] == "give the task up"
    session_answer(user=user, session_id=session.id, question_id=question.id, answer=answer)
    session = session_run(session.id)
    assert session.status == "completed", session.reason
    assert (task_of(session).status, verdicts(session)) == (status, expected)
    assert session.outcome == ("failing" if status == "failed" else "verified")
    [decided] = events_of(session.id, "ReviewDecided")
    if decided.payload["decision"] == "again":
        assert "The person you work for says to it: look at negative numbers" in said_to(session, "coder")
    if status == "failed":
        [failed] = events_of(session.id, "TaskFailed")
        assert "a person gave it up over the review: [1.1] calc.py:2" in failed.payload["reason"]


@pytest.mark.slow
def test_two_rounds_are_what_there_is_by_itself(scene: tuple[User, Project]) -> None:
    """And three commits that fail in a row end a task only where no reviewer has sent one of them back."""
    session = reviewed(*scene, recording(*STUBBORN, *coder()))
    assert session.status == "waiting_input"
    assert verdicts(session) == [(1, "findings"), (2, "findings"), (3, "unresolved")]
    assert task_of(session).attempts == 3


@pytest.mark.slow
def test_a_review_beside_the_change_is_handed_back_twice(scene: tuple[User, Project]) -> None:
    beside = {**FINDING, "path": "test_calc.py"}
    session = reviewed(*scene, recording(entry("reviewer", review(beside, TRIFLE)), *coder()))
    assert verdicts(session) == [(1, "passed")]
    [finished] = events_of(session.id, "ReviewFinished")
    assert "1 findings were left out" in finished.payload["note"]
    assert [finding["severity"] for finding in task_of(session).findings] == ["minor"]
    assert said_to(session, "reviewer").count("test_calc.py is not a file of the change") == 2


@pytest.mark.slow
def test_a_reviewer_that_hands_nothing_over_holds_nothing_up(scene: tuple[User, Project]) -> None:
    """Ended by the limit of its own, and its commit is never called reviewed."""
    user, project = scene
    project = project_update(project=project, agents={"reviewer": {"steps": 2}})
    looks = entry("reviewer", ("list_files", {}))
    session = reviewed(user, project, recording(looks, *coder()))
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert verdicts(session) == [(1, "unreviewed")]
    [finished] = events_of(session.id, "ReviewFinished")
    assert "the reviewer has taken 2 steps of the 2 that one agent may" in finished.payload["note"]
    [reached] = events_of(session.id, "AgentLimitReached")
    assert (reached.payload["limit"], reached.payload["maximum"]) == ("steps", 2)


@pytest.mark.slow
def test_what_holds_for_the_session_holds_for_its_reviewer(scene: tuple[User, Project]) -> None:
    """Its limits, what has to be approved, and being cancelled: the reviewer is an agent of the session's."""
    from apps.agents.services.approvals import session_autonomy_set
    from apps.projects.autonomy import Autonomy
    from apps.usage.types import Limits

    user, project = scene
    checks = entry("reviewer", ("run_checks", {}))
    model = recording(checks, *coder())
    session = session_make(user, project, model, review=Review.AUTO, limits=Limits(tokens=10**9, steps=3))
    session = session_run(session.id)
    assert (session.status, session.reason and session.reason["code"]) == ("paused", "budget_exceeded")
    assert verdicts(session) == [] and events_of(session.id, "ReviewStarted")
    session_autonomy_set(user=user, session_id=session.id, autonomy=Autonomy.ASK)
    session_resume(user=user, session_id=session.id, raised=Limits(tokens=10**9, steps=50))
    session = session_run(session.id)
    assert session.status == "waiting_approval"
    [asked] = events_of(session.id, "ApprovalRequested")
    assert asked.payload["name"] == "run_checks"
    session_cancel(user=user, session_id=session.id)
    assert session_run(session.id).status == "cancelled"


@pytest.mark.slow
def test_a_session_can_be_taken_back_into_a_review(scene: tuple[User, Project]) -> None:
    """To where the first findings were known, and to a step of the reviewer's: what came after is done anew."""
    user, project = scene
    session = reviewed(user, project, recording())
    first = next(step for step in step_list(session) if step.event.type == "ReviewFinished")
    session_rewind(user=user, session_id=session.id, seq=first.seq)
    task = task_of(session)
    assert (task.status, task.attempts, task.check_results) == (TaskStatus.RUNNING, 1, [])
    assert [finding["resolved"] for finding in task.findings] == [False, False]
    session_resume(user=user, session_id=session.id)
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert verdicts(session) == [(1, "findings"), (2, "passed"), (2, "passed")]
    read = next(
        step
        for step in step_list(session)
        if step.event.type == "ToolFinished" and step.event.payload["name"] == "read_file"
    )
    session_rewind(user=user, session_id=session.id, seq=read.seq)
    assert task_of(session).findings == []
    session_resume(user=user, session_id=session.id)
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert verdicts(session)[3:] == [(1, "findings"), (2, "passed")]
    assert [finding["resolved"] for finding in task_of(session).findings] == [True, False]


def ended_as(session: AgentSession, reference: AgentSession) -> None:
    """The session ended as the one that nobody interrupted, and nothing happened in it twice."""
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    once = ("ReviewStarted", "ReviewFinished", "ReviewDecided", "QuestionAsked", "TaskStarted", "TaskVerified")
    told = [
        (event.type, event.payload.get("round"), event.payload.get("attempt")) for event in events_of(session.id, *once)
    ]
    assert told == [
        (event.type, event.payload.get("round"), event.payload.get("attempt"))
        for event in events_of(reference.id, *once)
    ]
    mine, other = task_of(session), task_of(reference)
    assert (mine.status, mine.attempts, mine.findings) == (other.status, other.attempts, other.findings)
    # A rewrite whose outcome is unknown is one call more, and no effect more.
    effects = SessionEffect.objects.filter(session=session).count()
    assert effects == SessionEffect.objects.filter(session=reference).count()


def asked_and_answered(user: User, session: AgentSession, cut: Cut | None = None) -> AgentSession:
    """Run it, answer what it asks, and run it to its end; ``cut``: the first worker that meets it dies."""
    session = session_run(session.id, cut=cut)
    for _ in range(4):
        if session.status == "waiting_input":
            question = question_get(session_id=session.id)
            assert question is not None
            session_answer(user=user, session_id=session.id, question_id=question.id, answer="another round")
        lease_let_run_out(session.id)
        if session.status in ("completed", "failed", "paused"):
            break
        # The same cut goes on counting after the answer.
        session = session_run(session.id, cut=cut if cut is not None and not cut.dead else None)
    return session


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(2))
def test_a_worker_may_die_anywhere_in_a_review(
    scene: tuple[User, Project], part: int, pytestconfig: pytest.Config
) -> None:
    """Also while a person is asked: one round by itself, and one that they decide on."""
    user, project = scene
    project = project_update(project=project, agents={"reviewer": {"rounds": 0}})
    model = recording()

    def made() -> AgentSession:
        return session_make(user, project, model, review=Review.AUTO)

    asked_and_answered(user, made())  # the environment is there from now on
    counting = Cut()
    reference = asked_and_answered(user, made(), counting)
    ended_as(reference, reference)
    for at in points_taken(counting.points, part=part, parts=2, every=pytestconfig.getoption("--every")):
        cut = Cut(at)
        session = asked_and_answered(user, made(), cut)
        assert cut.dead
        ended_as(session, reference)
