"""A message to a session that has ended: it goes on, on its branch, in its conversation, and ends once more."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.agents.models import AgentSession, Attachment, SessionEffect, SessionMessage, ToolCall
from apps.agents.services.attachments import attachment_upload
from apps.agents.services.master_orchestrator import session_cancel, session_discard, session_merge
from apps.agents.services.messages import message_send
from apps.agents.types import AgentType
from apps.authentication.models import User
from apps.core.errors import Conflict, InvalidInput, NotFound
from apps.planning.selectors import plan_progress
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.repository import repository_path
from apps.projects.worktree import session_files_delete
from apps.usage.models import Budget
from apps.usage.types import Limits
from tests.api import client_for
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
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

FILES = {"calc.py": "def add(a, b):\n    return a - b\n", "AGENTS.md": "Use tabs.\n"}
RIGHT = "def add(a, b):\n    return a + b\n"
CHECK = "grep -q 'a + b' calc.py && ! grep -q BROKEN calc.py"
DONE = ("finish", {"summary": "done"})
AGAIN = "asks further"
UNKNOWN = "the outcome is unknown"


def recording(*more: dict[str, Any]) -> str:
    """A model that mends the file, and writes what a follow-up asks for."""
    notes = ("write_file", {"path": "NOTES.md", "content": "{{wanted}}\n"})
    return recording_write(
        [
            *more,
            entry("planner", plan_of("Mend it")),
            entry("coder", notes, user=rf"{AGAIN}[\s\S]*?Note: (?P<wanted>\w+)", last_result=UNKNOWN),
            entry("coder", DONE, user=AGAIN, last_tool="write_file"),
            entry("coder", notes, user=rf"{AGAIN}[\s\S]*?Note: (?P<wanted>\w+)"),
            entry("coder", DONE, last_tool="write_file"),
            entry("coder", ("write_file", {"path": "calc.py", "content": RIGHT})),
        ]
    )


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def ended(scene: tuple[User, Project], model: str = "", **options: Any) -> AgentSession:
    session = session_make(*scene, model or recording(), checks=[CHECK], **options)
    return session_run(session.id)


def say(user: User, session: AgentSession, text: str = "Note: first", **options: Any) -> AgentSession:
    return message_send(user=user, session_id=session.id, text=text, **options)


def log_of(session: AgentSession) -> list[str]:
    git_dir = repository_path(project_id=session.project_id)
    span = f"{session.base_commit}..refs/heads/{session.branch}"
    return git_run("log", "--format=%s", span, git_dir=git_dir).text.splitlines()


def file_of(session: AgentSession, path: str) -> str:
    return git_run("show", f"{session.branch}:{path}", git_dir=repository_path(project_id=session.project_id)).text


def test_a_follow_up_is_a_commit_more_in_the_same_conversation(scene: tuple[User, Project]) -> None:
    user, _ = scene
    first = ended(scene)
    assert (first.status, first.outcome) == ("completed", "verified"), first.reason
    reopened = say(user, first)
    assert (reopened.status, reopened.outcome, reopened.finished_at) == ("running", None, None)
    second = session_run(first.id)
    assert (second.status, second.outcome, second.turn) == ("completed", "verified", 1), second.reason
    assert log_of(second) == ["Follow-up: Note: first", "Mend it"]
    assert file_of(second, "NOTES.md") == "first"
    coders = [message for role, message in messages_of(first.id) if role == "coder"]
    assert second.executions.filter(role="coder").count() == 1, "the conversation is continued, not begun anew"
    told = next(str(m["data"]["content"]) for m in coders if AGAIN in str(m["data"]["content"]))
    assert "Note: first" in told and "What was reported" in told and "calc.py" in told and "passed" in told
    message = SessionMessage.objects.get(session=first)
    assert message.former["outcome"] == "verified" and message.former["report"] == first.report
    assert "Follow-up: Note: first" in second.report and "Mend it" in second.report
    assert second.plan_id is not None
    progress = plan_progress(second.plan_id)
    assert [feature.title for feature in progress.features] == ["all", "Follow-up: Note: first"]
    assert progress.estimate["tasks"] == 1, "of the follow-up: the rest is done"
    kinds = [event.type for event in events_of(first.id)]
    assert kinds.index("MessageReceived") == kinds.index("SessionReopened") - 1
    assert kinds.count("SessionCompleted") == 2
    assert [event.seq for event in events_of(first.id)] == list(range(1, len(kinds) + 1))
    third = session_run(say(user, second, "Note: second").id)
    assert (third.outcome, third.turn) == ("verified", 2)
    assert file_of(third, "NOTES.md") == "second"
    assert len(log_of(third)) == 3


def test_what_was_left_of_a_plan_is_left_after_a_follow_up(scene: tuple[User, Project]) -> None:
    user, _ = scene
    tasks: list[dict[str, Any]] = [{"title": title, "depends_on": []} for title in ("Leave it", "Mend it")]
    model = recording(
        entry("planner", ("submit_plan", {"summary": "p", "features": [{"title": "all", "tasks": tasks}]})),
        entry("replanner", ("keep_plan", {"reason": "it serves"})),
        entry("coder", ("report_blocked", {"reason": "no", "needs": "more"}), task="^Task: Leave it"),
    )
    first = ended(scene, model)
    assert (first.status, first.outcome) == ("completed", "failing"), first.reason
    say(user, first)
    second = session_run(first.id)
    assert second.status == "completed" and file_of(second, "NOTES.md") == "first"
    assert second.plan is not None
    assert [task.status for task in plan_progress(second.plan.id).tasks] == ["failed", "done", "done"]
    assert second.plan.status == "failed", "one of its tasks can be tried again, so the plan is not done"


def test_what_a_follow_up_breaks_is_seen(scene: tuple[User, Project]) -> None:
    user, _ = scene
    broken = ("write_file", {"path": "calc.py", "content": RIGHT + "# BROKEN\n"})
    model = recording(
        entry("coder", DONE, user="doesn't stand"),
        entry("coder", broken, user=AGAIN, not_seen=["^write_file .*BROKEN"]),
    )
    first = ended(scene, model)
    second = session_run(say(user, first).id)
    assert (second.status, second.outcome) == ("completed", "failing"), second.reason
    (check,) = second.checks
    assert (check["before"], check["after"]) == ("passed", "failed"), "before is the head that it started from"


def test_only_a_session_that_has_ended_takes_a_message(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = session_make(*scene, recording(), checks=[CHECK])
    with pytest.raises(Conflict) as refused:
        say(user, session)
    assert refused.value.extra["state"] == "pending" and refused.value.next_step
    ended_one = session_run(session.id)
    with pytest.raises(InvalidInput):
        say(user, ended_one, " ")
    say(user, ended_one)
    with pytest.raises(Conflict) as running:
        say(user, ended_one, "another")
    assert running.value.extra["state"] == "running"
    session_cancel(user=user, session_id=session.id)
    session_discard(user=user, session_id=session.id)
    with pytest.raises(Conflict) as discarded:
        say(user, ended_one)
    assert discarded.value.extra["state"] == "discarded" and "new session" in discarded.value.next_step


def test_the_same_message_twice_has_one_effect(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = ended(scene)
    client = client_for(user)
    address = f"/api/agents/sessions/{session.id}/messages/"
    answers = [client.post(address, {"text": "Note: once"}, headers={"Idempotency-Key": "k"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    other = client.post(address, {"text": "Note: other"}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["state"]) == (409, "key_used")
    assert SessionMessage.objects.filter(session=session).count() == 1
    done = session_run(session.id)
    assert (
        client.post(address, {"text": "Note: once"}, headers={"Idempotency-Key": "k"}).json()["status"] == done.status
    )
    (listed,) = client.get(address).json()
    assert (listed["turn"], listed["text"], listed["former"]["outcome"]) == (1, "Note: once", "verified")


def test_of_two_follow_ups_at_once_one_is_refused(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = ended(scene)
    outcomes: list[str] = []
    together = threading.Barrier(4)

    def send(number: int) -> None:
        try:
            together.wait()
            say(user, session, f"Note: n{number}")
            outcomes.append("taken")
        except Conflict as refused:
            outcomes.append(str(refused.extra["state"]))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["running", "running", "running", "taken"]
    assert SessionMessage.objects.filter(session=session).count() == 1


def test_a_merged_session_goes_on_and_can_be_merged_again(scene: tuple[User, Project]) -> None:
    user, project = scene
    session = ended(scene)
    merged = session_merge(user=user, session_id=session.id).merged_commit
    assert merged
    reopened = say(user, session)
    assert (reopened.merged_commit, reopened.merge_onto) == ("", merged)
    done = session_run(session.id)
    assert done.outcome == "verified", done.reason
    again = session_merge(user=user, session_id=session.id)
    tip = git_run("rev-parse", "refs/heads/main", git_dir=repository_path(project_id=project.id)).text
    assert again.merged_commit == tip == done.head_commit != merged


def test_a_cancelled_session_goes_on_with_its_open_calls_closed(scene: tuple[User, Project]) -> None:
    user, _ = scene
    ask = ("ask_user", {"question": "Which one?"})
    session = ended(scene, recording(entry("coder", ask, ("list_files", {}), not_seen=["ask_user", AGAIN])))
    assert session.status == "waiting_input"
    session_cancel(user=user, session_id=session.id)
    done = session_run(say(user, session).id)
    assert done.status == "completed", done.reason
    assert file_of(done, "NOTES.md") == "first"
    assert not ToolCall.objects.filter(session=session).exclude(status="finished").exists()
    coder = [message for role, message in messages_of(session.id) if role == "coder"]
    proposed = [call["id"] for message in coder for call in message["data"].get("tool_calls") or ()]
    answered = [message["data"]["tool_call_id"] for message in coder if message["type"] == "tool"]
    assert proposed == answered, "every call has its result, in order"
    started = [event.payload["call"] for event in events_of(session.id, "ToolStarted")]
    assert sorted(started) == sorted(event.payload["call"] for event in events_of(session.id, "ToolFinished"))


def test_a_checkout_that_was_removed_is_made_again(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = ended(scene)
    session_files_delete(session_id=session.id)
    done = session_run(say(user, session).id)
    assert done.outcome == "verified", done.reason
    told = next(str(m["data"]["content"]) for _, m in messages_of(session.id) if AGAIN in str(m["data"]["content"]))
    assert "The files are those of the last commit" in told


def test_limits_are_what_is_left_or_more(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = ended(scene, limits=Limits(tokens=10**9, steps=3), limit_seconds=500)
    assert session.status == "completed"
    stuck = session_run(say(user, session).id)
    assert stuck.status == "paused" and stuck.reason is not None
    assert stuck.reason["code"] == "budget_exceeded"
    session_cancel(user=user, session_id=session.id)
    more = say(user, session, "Note: more", more=Limits(steps=10), more_seconds=60)
    assert Budget.objects.get(scope_id=session.id).limit_steps == 13
    assert 60 <= more.limit_seconds <= 60 + more.used_seconds + 1
    done = session_run(session.id)
    assert done.status == "completed", done.reason


def test_a_question_further_to_a_researcher(scene: tuple[User, Project]) -> None:
    user, _ = scene
    model = recording_write(
        [
            entry("researcher", ("finish", {"summary": "by tabs"}), user=f"{AGAIN}[\\s\\S]*How"),
            entry("researcher", ("finish", {"summary": "it subtracts"}), seen=["Use tabs"]),
        ]
    )
    session = ended(scene, model, agent_type=AgentType.RESEARCHER)
    assert session.report.startswith("it subtracts"), session.reason
    done = session_run(say(user, session, "How is it indented?").id)
    assert done.status == "completed" and done.report.startswith("by tabs")
    assert done.executions.count() == 1


def test_a_plan_is_made_anew_for_a_planner(scene: tuple[User, Project]) -> None:
    user, _ = scene
    model = recording_write([entry("planner", plan_of("B"), user=AGAIN), entry("planner", plan_of("A"))])
    session = ended(scene, model, agent_type=AgentType.PLANNER)
    done = session_run(say(user, session, "Shorter, please").id)
    assert done.status == "completed", done.reason
    assert done.plan_id is not None and done.plan_id != session.plan_id
    assert [task.title for feature in plan_progress(done.plan_id).features for task in feature.tasks] == ["B"]


def test_a_session_that_was_given_up_before_it_planned_goes_on(scene: tuple[User, Project]) -> None:
    user, _ = scene
    model = recording_write(
        [
            entry("coder", DONE, last_tool="write_file"),
            entry("coder", ("write_file", {"path": "calc.py", "content": RIGHT}), seen=["Use tabs", "Mend it now"]),
        ]
    )
    session = ended(scene, model)
    # There is no answer for a planner in the recording.
    assert session.status == "paused"
    session_cancel(user=user, session_id=session.id)
    done = session_run(say(user, session, "Mend it now").id)
    assert (done.status, done.outcome) == ("completed", "verified"), done.reason


def test_attachments_come_with_a_message(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = ended(scene)
    stranger = project_make_user()
    foreign = attachment_upload(user=stranger, name="a.txt", declared_type="", chunks=[b"x"])
    with pytest.raises(NotFound):
        say(user, session, attachment_ids=[foreign.id])
    assert AgentSession.objects.get(id=session.id).status == "completed", "nothing of it happened"
    mine = attachment_upload(user=user, name="wish.txt", declared_type="", chunks=[b"make it blue"])
    done = session_run(say(user, session, attachment_ids=[mine.id]).id)
    assert done.status == "completed", done.reason
    told = next(str(m["data"]["content"]) for _, m in messages_of(session.id) if AGAIN in str(m["data"]["content"]))
    assert "make it blue" in told and "/attachments/wish.txt" in told
    assert Attachment.objects.get(id=mine.id).turn == 1


def project_make_user() -> User:
    from tests.builders import user_build

    return user_build()


@pytest.mark.slow
def test_a_follow_up_survives_a_worker_that_dies(scene: tuple[User, Project]) -> None:
    """A sample of the points at which it could; the test below takes more."""
    model = recording()
    reference, points = _uninterrupted(scene, model)
    for at in range(4, points, max(1, points // 8)):
        _whole_require(_cut_and_finish(scene, model, at), reference)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(2))
def test_a_follow_up_survives_at_every_third_point(
    scene: tuple[User, Project], part: int, pytestconfig: pytest.Config
) -> None:
    """A twelfth of these; all with ``--every``. Its nodes are those of any session (``test_session_replay``)."""
    model = recording()
    reference, points = _uninterrupted(scene, model)
    for at in points_taken(points // 3, part=part, parts=2, every=pytestconfig.getoption("--every")):
        at *= 3
        _whole_require(_cut_and_finish(scene, model, at), reference)


def _uninterrupted(scene: tuple[User, Project], model: str) -> tuple[AgentSession, int]:
    session, counting = ended(scene, model), Cut()
    say(scene[0], session)
    return session_run(session.id, cut=counting), counting.points


def _cut_and_finish(scene: tuple[User, Project], model: str, at: int) -> AgentSession:
    session, cut = ended(scene, model), Cut(at)
    say(scene[0], session)
    session_run(session.id, cut=cut)
    assert cut.dead
    lease_let_run_out(session.id)
    return session_run(session.id)


def _whole_require(session: AgentSession, reference: AgentSession) -> None:
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert log_of(session) == log_of(reference)
    assert file_of(session, "NOTES.md") == file_of(reference, "NOTES.md")
    events = events_of(session.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    once = ["MessageReceived", "PlanExtended", "TaskStarted", "TaskVerified", "TaskCommitted", "SessionCompleted"]
    once.append("ChecksFinished")
    assert [event.type for event in events_of(session.id, *once)] == [
        event.type for event in events_of(reference.id, *once)
    ]
    humans = [str(m["data"]["content"]) for _, m in messages_of(session.id) if m["type"] == "human"]
    assert sum(AGAIN in said for said in humans) == 1
    effects = SessionEffect.objects.filter(session=session).count()
    assert effects == SessionEffect.objects.filter(session=reference).count()
    assert session.executions.count() == reference.executions.count()
    assert session.plan_id is not None
