"""Tasks that don't need each other are worked on side by side, and merged one by one onto the session's branch."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession, ToolCall
from apps.agents.selectors import question_get
from apps.agents.services.master_orchestrator import (
    session_answer,
    session_cancel,
    session_discard,
    session_merge,
    session_resume,
)
from apps.agents.services.messages import message_send
from apps.agents.services.rebases import session_rebase
from apps.agents.services.steering import session_steer
from apps.agents.types import Review
from apps.authentication.models import User
from apps.planning.models import Task
from apps.projects.models import Project
from apps.projects.worktree import worktree_path
from apps.usage.models import ModelCall
from apps.usage.types import Limits
from tests.api import client_for
from tests.integration.lanes_scene import (
    CHECK,
    CONFLICT,
    DONE,
    FILES,
    MEND,
    conflicting,
    content_of,
    effects_of,
    held,
    letting_go,
    plan_beside,
    refs_of,
    subjects_of,
    two,
    under_way,
    whole_require,
    writes,
)
from tests.integration.session_scene import (
    entry,
    events_of,
    executor_open,
    messages_of,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def session_of(
    scene: tuple[User, Project], entries: Sequence[Mapping[str, Any]], *, lanes: int = 2, **options: Any
) -> AgentSession:
    user, project = scene
    options.setdefault("checks", [CHECK])
    return session_make(user, project, recording_write(entries), lanes=lanes, **options)


def said_to(session: AgentSession, part: str) -> list[str]:
    """What agents were told that has this in it."""
    said = (str(message["data"]["content"]) for _, message in messages_of(session.id) if message["type"] == "human")
    return [text for text in said if part in text]


def test_two_tasks_side_by_side_and_one_that_needs_both(scene: tuple[User, Project]) -> None:
    # The last one reads what the others have written: the session's own worktree has followed the branch.
    both = ("run_command", {"command": "cat a.txt b.txt > c.txt"})
    last = {"task": "^Task: Join"}
    entries = [
        *two(then="Join"),
        entry("coder", DONE, **last, last_tool="run_command"),
        entry("coder", both, **last),
    ]
    session = session_run(session_of(scene, entries).id)
    whole_require(session, {"a.txt": "a\n", "b.txt": "b\n", "c.txt": "a\nb\n"}, "Write a", "Write b", "Join")
    assert [event.payload["fast_forward"] for event in events_of(session.id, "TaskMerged")] == [True, False]
    started = [event.seq for event in events_of(session.id, "TaskStarted")]
    committed = [event.seq for event in events_of(session.id, "TaskCommitted")]
    assert started[1] < committed[0] < started[2], "they were not worked on side by side"
    files = [event.payload["files_changed"] for event in events_of(session.id, "SessionReported")]
    assert files == [["a.txt", "b.txt", "c.txt"]]
    # Whose work an event tells of is in it.
    of_agents = ("ModelReplied", "ToolStarted", "ToolFinished", "CodeLocated", "ChecksFinished", "PhaseChanged")
    beside = [event for event in events_of(session.id, *of_agents) if started[0] - 1 <= event.seq < committed[1]]
    titles = dict(Task.objects.filter(feature__plan=session.plan).values_list("id", "title"))
    whose: dict[str, set[str]] = {event.type: set() for event in beside}
    for event in beside:
        whose[event.type].add(titles[uuid.UUID(event.payload["task"])])
    assert all(names == {"Write a", "Write b"} for names in whose.values()), whose
    for started_call in events_of(session.id, "ToolStarted"):
        path = str(started_call.payload["arguments"].get("path", ""))
        if path in ("a.txt", "b.txt"):
            assert titles[uuid.UUID(started_call.payload["task"])] == f"Write {path[0]}"


def test_a_conflict_goes_back_to_its_task_and_is_mended(scene: tuple[User, Project]) -> None:
    session = session_run(session_of(scene, conflicting()).id)
    whole_require(session, {}, "First", "Second")
    found = content_of(session, "numbers.txt").splitlines()
    assert sorted(line for line in found if "four" in line) == ["four erste", "four zweite"] and len(found) == 8
    [event] = events_of(session.id, "MergeConflicted")
    assert (event.payload["files"], event.payload["round"]) == (["numbers.txt"], 1)
    assert "CONFLICT (content)" in event.payload["reasons"][0]
    [told] = said_to(session, CONFLICT)
    assert "numbers.txt" in told and "What others have done meanwhile" in told and "<<<<<<< " in told
    # What it had committed at first is kept until the session is discarded.
    [back] = effects_of(session, "merge:")
    kept = f"refs/archon/kept/{session.id}/{back.result['own']}"
    assert kept in refs_of(session)
    second = next(task for task in Task.objects.all() if task.attempts == 2)
    assert second.status == "done"
    session_discard(user=scene[0], session_id=session.id)
    assert refs_of(session) == set()


@pytest.mark.slow
def test_marks_that_are_left_are_no_result(scene: tuple[User, Project]) -> None:
    # Whoever hears of it for the first time says at once that it is done.
    entries = [entry("coder", DONE, user=CONFLICT), *conflicting()]
    for title in ("First", "Second"):
        of = {"task": f"^Task: {title}", "user": "marks of the conflict"}
        entries.insert(0, entry("coder", MEND, **of))
        entries.insert(0, entry("coder", DONE, **of, last_result="mended"))
    session = session_run(session_of(scene, entries).id)
    whole_require(session, {}, "First", "Second")
    [refused] = [event for event in events_of(session.id, "TaskVerified") if not event.payload["passed"]]
    assert refused.payload["reasons"] == ["the marks of the conflict are still in numbers.txt"]


@pytest.mark.slow
def test_a_merge_whose_checks_fail_goes_back_to_its_task(scene: tuple[User, Project]) -> None:
    # Each may be there, both may not, unless a third says so.
    check = "test ! -e a.txt || test ! -e b.txt || test -e both.txt"
    entries = two()
    for title in ("Write a", "Write b"):
        of = {"task": f"^Task: {title}", "user": "not together with"}
        entries.insert(0, entry("coder", ("write_file", {"path": "both.txt", "content": "both\n"}), **of))
        entries.insert(0, entry("coder", DONE, **of, last_result="both.txt"))
    session = session_run(session_of(scene, entries, checks=[check]).id)
    whole_require(session, {"a.txt": "a\n", "b.txt": "b\n", "both.txt": "both\n"}, "Write a", "Write b")
    [event] = events_of(session.id, "MergeConflicted")
    assert event.payload["files"] == [] and event.payload["reasons"]


@pytest.mark.slow
def test_a_task_that_fails_leaves_the_others_alone(scene: tuple[User, Project]) -> None:
    entries = [
        entry("planner", plan_beside("Never", "Write b", "Write c", then="After")),
        *writes("Never", "bad.txt", "bad\n"),
        *writes("Write b", "b.txt", "b\n"),
        *writes("Write c", "c.txt", "c\n"),
        entry("replanner", ("keep_plan", {"reason": "The others are as useful without it."})),
    ]
    session = session_run(session_of(scene, entries, lanes=3, checks=["test ! -e bad.txt"]).id)
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    assert sorted(subjects_of(session)) == ["Write b", "Write c"]
    tasks = {task.title: task for task in Task.objects.filter(feature__plan=session.plan)}
    states = {title: task.status for title, task in tasks.items()}
    assert states == {"Never": "failed", "Write b": "done", "Write c": "done", "After": "blocked"}
    assert tasks["Never"].attempts == 3
    # What it has committed is kept, and is not the session's.
    assert f"refs/archon/kept/{session.id}/{tasks['Never'].commit}" in refs_of(session)
    assert not [name for name in refs_of(session) if name.startswith(f"refs/heads/{session.branch}.")]
    [report] = events_of(session.id, "SessionReported")
    assert report.payload["files_changed"] == ["b.txt", "c.txt"]


@pytest.mark.slow
def test_work_that_never_fits_is_given_up(scene: tuple[User, Project], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.agents.nodes.lane_merge.MERGE_ROUNDS", 0)
    session = session_run(session_of(scene, conflicting()).id)
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    assert len(subjects_of(session)) == 1
    [failed] = events_of(session.id, "TaskFailed")
    assert "could not be merged" in failed.payload["reason"]
    task = Task.objects.get(id=failed.payload["task"])
    assert f"refs/archon/kept/{session.id}/{task.commit}" in refs_of(session)


def test_a_question_in_one_lane(scene: tuple[User, Project]) -> None:
    """The other comes to the end of its step first; then all wait, and go on with the answer."""
    user = scene[0]
    ask = ("ask_user", {"question": "Which?"})
    note = ("write_file", {"path": "a.txt", "content": "{{wanted}}\n"})
    of, other = {"task": "^Task: Write a"}, {"task": "^Task: Write b"}
    entries = [
        entry("planner", plan_beside("Write a", "Write b")),
        entry("coder", DONE, **of, last_tool="write_file"),
        entry("coder", note, **of, last_tool="ask_user", last_result=r"(?P<wanted>\w+)"),
        entry("coder", ask, **of, last_tool="run_command"),
        entry("coder", held("both"), **of),
        entry("coder", DONE, **other, last_tool="run_command"),
        entry("coder", held("asked", "echo slept > b.txt"), **other),
    ]
    session = session_of(scene, entries)
    asked = ToolCall.objects.filter(session=session, name="ask_user")
    with letting_go(session, both=lambda: under_way(session) == 2, asked=asked.exists):
        session = session_run(session.id)
    assert session.status == "waiting_input"
    question = asked.get()
    calls = ToolCall.objects.filter(session=session).exclude(id=question.id)
    assert (question.status, set(calls.values_list("status", flat=True))) == ("waiting", {"finished"})
    types = [event.type for event in events_of(session.id)]
    # The planner's and the commands'.
    assert types[-1] == "QuestionAsked" and types.count("ToolFinished") == 3
    session_answer(user=user, session_id=session.id, question_id=question.id, answer="this")
    session = session_run(session.id)
    whole_require(session, {"a.txt": "this\n", "b.txt": "slept\n"}, "Write a", "Write b")
    assert not ToolCall.objects.filter(session=session, observation__contains="outcome is unknown").exists()


@pytest.mark.slow
def test_a_budget_that_ends_in_the_middle(scene: tuple[User, Project]) -> None:
    """It is paused between two steps of each, and goes on when there is more."""
    user = scene[0]
    session = session_of(scene, two(), limits=Limits(tokens=10**9, steps=3))
    session = session_run(session.id)
    assert (session.status, (session.reason or {})["code"]) == ("paused", "budget_exceeded"), session.reason
    assert not ToolCall.objects.filter(session=session).exclude(status="finished").exists()
    session_resume(user=user, session_id=session.id, raised=Limits(tokens=10**9, steps=100))
    session = session_run(session.id)
    whole_require(session, {"a.txt": "a\n", "b.txt": "b\n"}, "Write a", "Write b")
    assert len(events_of(session.id, "ModelReplied")) == 5


@pytest.mark.slow
def test_what_a_person_says_is_heard_in_each_lane(scene: tuple[User, Project]) -> None:
    entries = [entry("planner", plan_beside("Write a", "Write b"))]
    for title in ("Write a", "Write b"):
        of = {"task": f"^Task: {title}"}
        done = entry("coder", DONE, **of, last_result="exit code 0")
        entries += [entry("coder", DONE, **of, user="Mind the gap"), done, entry("coder", held("said"), **of)]
    session = session_of(scene, entries, checks=["true"])

    def said() -> bool:
        if both := under_way(session) == 2:
            session_steer(user=scene[0], session_id=session.id, text="Mind the gap.")
        return both

    with letting_go(session, said=said):
        session = session_run(session.id)
    assert session.status == "completed", session.reason
    assert len(said_to(session, "Mind the gap.")) == 2
    delivered = events_of(session.id, "SteeringDelivered")
    assert len({event.payload["execution"] for event in delivered}) == len(delivered) == 2


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_hands_over_between_two_steps(scene: tuple[User, Project]) -> None:
    """Of each lane: no command is cut, and no reply is paid for twice."""
    look = held("told", "echo {{title}} > {{title}}.txt")
    entries = [entry("planner", plan_beside("Write a", "Write b"))]
    for title in ("a", "b"):
        of = {"task": rf"^Task: Write (?P<title>{title})"}
        entries += [entry("coder", DONE, **of, last_tool="run_command"), entry("coder", look, **of)]
    session = session_of(scene, entries)
    both, told = threading.Event(), threading.Event()

    def begun() -> bool:
        if under_way(session) == 2:
            both.set()
        return told.is_set()

    async def main() -> None:
        async with executor_open() as executor:
            running = asyncio.ensure_future(executor.session_execute(session.id))
            while not both.is_set():
                await asyncio.sleep(0.05)
            executor.leave()
            told.set()
            await running
            assert executor.handed_over == (session.id,)

    with letting_go(session, told=begun):
        asyncio.run(main())
    assert AgentSession.objects.get(id=session.id).status == "running"
    assert set(ToolCall.objects.filter(session=session).values_list("status", flat=True)) == {"finished"}
    ended = session_run(session.id)
    whole_require(ended, {"a.txt": "a\n", "b.txt": "b\n"}, "Write a", "Write b")
    assert not ToolCall.objects.filter(session=session, observation__contains="outcome is unknown").exists()
    assert set(ModelCall.objects.filter(budget_id=session.id).values_list("state", "attempt")) == {("settled", 1)}


@pytest.mark.slow
def test_a_session_that_was_cancelled_in_the_middle_goes_on_from_what_was_merged(scene: tuple[User, Project]) -> None:
    user = scene[0]
    ask = ("ask_user", {"question": "Which?"})
    of, further = {"task": "^Task: Write a"}, {"user": "asks further"}
    entries = [
        entry("coder", DONE, **further, last_tool="run_command"),
        entry("coder", ("run_command", {"command": "cat b.txt > c.txt"}), **further),
        entry("planner", plan_beside("Write a", "Write b")),
        entry("coder", ask, **of, last_result="slept"),
        entry("coder", held("merged", "echo slept"), **of),
        *writes("Write b", "b.txt", "b\n"),
    ]
    session = session_of(scene, entries)
    with letting_go(session, merged=lambda: events_of(session.id, "TaskMerged")):
        session = session_run(session.id)
    assert session.status == "waiting_input" and subjects_of(session) == ["Write b"]
    session_cancel(user=user, session_id=session.id)
    message_send(user=user, session_id=session.id, text="Copy it.", key="")
    session = session_run(session.id)
    assert session.status == "completed", session.reason
    assert (content_of(session, "b.txt"), content_of(session, "c.txt")) == ("b\n", "b\n")


@pytest.mark.slow
def test_a_rebase_and_a_follow_up_after_lanes(scene: tuple[User, Project]) -> None:
    user, project = scene
    further = {"user": "asks further"}
    entries = [
        entry("coder", DONE, **further, last_tool="write_file"),
        entry("coder", ("write_file", {"path": "c.txt", "content": "c\n"}), **further),
        *two(),
    ]
    session = session_run(session_of(scene, entries).id)
    other = session_make(
        user,
        project,
        recording_write([entry("planner", plan_beside("Write d")), *writes("Write d", "d.txt", "d\n")]),
        checks=[CHECK],
    )
    session_merge(user=user, session_id=session_run(other.id).id)
    session_rebase(user=user, session_id=session.id)
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert content_of(session, "d.txt") == "d\n" and sorted(subjects_of(session)) == ["Write a", "Write b"]
    message_send(user=user, session_id=session.id, text="One more.", key="")
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert {content_of(session, f"{name}.txt") for name in "abcd"} == {"a\n", "b\n", "c\n", "d\n"}
    assert (worktree_path(session_id=session.id) / "d.txt").read_text() == "d\n"


def test_how_many_are_worked_on_side_by_side(scene: tuple[User, Project], settings: Any) -> None:
    """The request says so, else the project, else the server; one has them follow each other."""
    user, project = scene
    client = client_for(user)
    address = f"/api/projects/{project.id}/"
    body = {"project": str(project.id), "goal": "go", "model": recording_write(two())}

    def lanes_now(**more: Any) -> int:
        answer = client.post("/api/agents/sessions/", {**body, **more}, format="json")
        assert answer.status_code == 201, answer.content
        return int(answer.json()["lanes"])

    assert (lanes_now(), lanes_now(lanes=5)) == (settings.ARCHON_LANES, 5)
    assert client.patch(address, {"lanes": 3}, format="json").json()["lanes"] == 3
    assert (lanes_now(), lanes_now(lanes=1)) == (3, 1)
    assert client.patch(address, {"lanes": None}, format="json").json()["lanes"] is None
    assert lanes_now() == settings.ARCHON_LANES
    for lanes in (0, 9, "x"):
        assert client.post("/api/agents/sessions/", {**body, "lanes": lanes}, format="json").status_code == 400
        assert client.patch(address, {"lanes": lanes}, format="json").status_code == 400


@pytest.mark.slow
def test_one_after_the_other(scene: tuple[User, Project]) -> None:
    session = session_run(session_of(scene, two(), lanes=1).id)
    whole_require(session, {"a.txt": "a\n", "b.txt": "b\n"}, "Write a", "Write b")
    assert not events_of(session.id, "TaskMerged")


@pytest.mark.slow
def test_reviews_in_lanes_and_a_person_who_decides(scene: tuple[User, Project]) -> None:
    """What a reviewer finds goes back in its own lane; the question to a person waits for the other one's step."""
    user = scene[0]
    finding = {"path": "a.txt", "line": 1, "severity": "major", "comment": "it says too little"}
    of, other = {"task": "Write a"}, {"task": "Write b"}
    entries = [
        entry("planner", plan_beside("Write a", "Write b")),
        entry("reviewer", ("submit_review", {"summary": "no", "unresolved": ["1.1"]}), task=r"Write a[\s\S]*Found in"),
        entry("reviewer", ("submit_review", {"summary": "no", "findings": [finding]}), **of),
        entry("reviewer", ("submit_review", {"summary": "fine", "findings": []}), **other),
        entry("coder", DONE, **other, last_tool="run_command"),
        entry("coder", held("asked", "echo b > b.txt"), **other),
        *writes("Write a", "a.txt", "a\n"),
    ]
    session = session_of(scene, entries, review=Review.ALWAYS)
    reviewed = ToolCall.objects.filter(session=session, name="submit_review", status="finished")
    with letting_go(session, asked=lambda: reviewed.count() == 2):
        session = session_run(session.id)
    assert session.status == "waiting_input", (session.status, session.reason)
    question = question_get(session_id=session.id)
    assert question is not None and "Write a" in question.arguments["question"]
    others = ToolCall.objects.filter(session=session).exclude(id=question.id)
    assert set(others.values_list("status", flat=True)) == {"finished"}
    session_answer(user=user, session_id=session.id, question_id=question.id, answer="accept it")
    ended = session_run(session.id)
    assert not ToolCall.objects.filter(session=session, observation__contains="outcome is unknown").exists()
    assert (ended.status, ended.outcome) == ("completed", "verified"), ended.reason
    assert sorted(subjects_of(ended)) == ["Write a", "Write b"]


@pytest.mark.slow
def test_a_task_that_is_blocked_in_its_lane_leaves_nothing_there(scene: tuple[User, Project]) -> None:
    """The plan is looked at once the others have come to their end; what its earlier attempts committed is kept."""
    of = {"task": "^Task: Need b"}
    bad = ("write_file", {"path": "bad.txt", "content": "bad\n"})
    entries = [
        entry("planner", plan_beside("Need b", "Write b", "Write c", then="After")),
        entry("replanner", ("keep_plan", {"reason": "The others are as useful without it."})),
        entry(
            "coder", ("report_blocked", {"reason": "there is no b", "needs": "b.txt"}), **of, user="doesn't stand yet"
        ),
        entry("coder", DONE, **of, last_tool="write_file"),
        entry("coder", bad, **of),
        *writes("Write b", "b.txt", "b\n"),
        *writes("Write c", "c.txt", "c\n"),
    ]
    session = session_run(session_of(scene, entries, lanes=3, checks=["test ! -e bad.txt"]).id)
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    states = dict(Task.objects.filter(feature__plan=session.plan).values_list("title", "status"))
    assert states == {"Need b": "failed", "Write b": "done", "Write c": "done", "After": "blocked"}
    assert sorted(subjects_of(session)) == ["Write b", "Write c"]
    told = [event.type for event in events_of(session.id)]
    assert told.count("TaskBlocked") == 1 and told.index("PlanKept") > max(
        at for at, kind in enumerate(told) if kind == "TaskMerged"
    )
    [tried] = [each.result["commit"] for each in effects_of(session, "verify:") if not each.result["acceptable"]]
    assert f"refs/archon/kept/{session.id}/{tried}" in refs_of(session)
    assert not [name for name in refs_of(session) if name.startswith(f"refs/heads/{session.branch}.")]
