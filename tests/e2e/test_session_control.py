"""What a person does to a session through the public API: pause, resume, answer, cancel, watch, merge, discard."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from cli.errors import ApiError
from cli.resources import Event, Session
from tests.builders import git
from tests.loopback.agents import Agents, Gate, Turn, call, finishes, plans, runs, says
from tests.loopback.openai_server import OpenAIServer, Request
from tests.processes import wait_until
from tests.sandboxing import marker, processes_alive
from tests.small_repository import CHECK, MEND, repository, server
from tests.stacks import LiveStack

# pytest finds fixtures by their names in a file.
__all__ = ["repository", "server"]


def start(stack: LiveStack, where: Any, server: OpenAIServer, turns: list[Turn], **options: Any) -> Session:
    server.answer = Agents(turns)
    return stack.session_start(where, base_url=server.base_url, checks=[CHECK], **options)


def refused(stack: LiveStack, session: Session, command: str, status: int = 409, **arguments: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        stack.api.session_command(session.id, command, **arguments)
    assert caught.value.status == status, caught.value
    return caught.value


def assert_done_once(stack: LiveStack, session_id: str) -> list[Event]:
    """No reply, no call and no commit is there twice."""
    events = stack.events(session_id)
    for kind, keys in {
        "ModelReplied": ("execution", "step"),
        "ToolStarted": ("call",),
        "ToolFinished": ("call",),
        "TaskCommitted": ("task",),
        "TaskStarted": ("task", "attempt"),
        "PlanCreated": (),
        "EnvironmentPrepared": (),
        "SessionReported": (),
    }.items():
        count = Counter(tuple(event.payload[key] for key in keys) for event in events if event.type == kind)
        assert not count or max(count.values()) == 1, f"{kind} twice: {count}\n{stack.story(session_id)}"
    return events


def last_result(server: OpenAIServer) -> str:
    return server.requests[-1].results()[-1]


def test_a_session_that_is_paused_while_the_model_thinks_goes_on(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    gate = Gate()
    appends = runs("echo once >> log.txt")
    session = start(stack, repository, server, [appends, gate.holds(says(MEND)), finishes()])
    assert gate.reached.wait(60)
    assert stack.api.session_command(session.id, "pause").status == "paused"
    gate.open()
    seen = len(stack.events(session.id))
    assert stack.api.session_command(session.id, "pause").status == "paused"
    assert len(stack.events(session.id)) == seen, "a paused session has gone on"
    stack.api.session_command(session.id, "resume")
    ended = stack.session_wait(session.id, "completed")
    assert ended.outcome == "verified", stack.story(session.id)
    events = assert_done_once(stack, session.id)
    assert [event.type for event in events if event.type.startswith("SessionP") or event.type == "SessionResumed"] == [
        "SessionPaused",
        "SessionResumed",
    ]
    assert stack.api.session_diff(session.id).diff.count("+once") == 1


def test_a_command_that_a_pause_ends_is_not_made_again(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    mark = marker()
    session = start(stack, repository, server, [runs(f"echo once >> log.txt; sleep {mark}"), says(MEND), finishes()])
    assert wait_until(lambda: processes_alive(mark))
    stack.api.session_command(session.id, "pause")
    assert wait_until(lambda: not processes_alive(mark), seconds=10)
    stack.api.session_command(session.id, "resume")
    assert stack.session_wait(session.id, "completed").outcome == "verified"
    assert_done_once(stack, session.id)
    interrupted = next(request.results("run_command") for request in server.requests if request.results("run_command"))
    assert "outcome is unknown" in interrupted[0]
    assert stack.api.session_diff(session.id).diff.count("+once") == 1


def test_a_cancelled_session_leaves_no_process(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    mark = marker()
    command = f"(setsid sleep {mark} &) ; sleep {mark} & sh -c 'trap \"\" TERM INT HUP; sleep {mark}'"
    session = start(stack, repository, server, [says(MEND), runs(command), finishes()])
    assert wait_until(lambda: len(processes_alive(mark)) >= 3)
    assert stack.api.session_command(session.id, "cancel").status == "cancelled"
    assert wait_until(lambda: not processes_alive(mark), seconds=10)
    assert stack.api.session_command(session.id, "cancel").status == "cancelled"
    events = stack.events(session.id)
    assert events[-1].type == "SessionCancelled"
    for command in ("resume", "pause", "execute", "merge"):
        refused(stack, session, command)
    asked = len(server.requests)
    assert not wait_until(lambda: len(server.requests) > asked, seconds=2), "a cancelled session asks its model"
    assert stack.api.session_command(session.id, "discard").status == "cancelled"


def test_a_question_is_asked_answered_and_heard(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    def edits(request: Request) -> Any:
        return says(call("edit_file", path="answer.txt", old_text="41", new_text=request.results("ask_user")[0]))

    asks = says(call("ask_user", question="Which answer?", choices=["42", "43"]))
    session = start(stack, repository, server, [asks, edits, finishes()])
    waiting = stack.session_wait(session.id, "waiting_input")
    assert waiting.question is not None
    assert (waiting.question.text, waiting.question.choices) == ("Which answer?", ["42", "43"])
    assert stack.api.session_progress(session.id).question == waiting.question
    for answer, question, status in (("", waiting.question.id, 400), ("x", session.id, 404)):
        with pytest.raises(ApiError) as caught:
            stack.api.session_answer(session.id, question_id=question, answer=answer)
        assert caught.value.status == status
    stack.api.session_answer(session.id, question_id=waiting.question.id, answer="42")
    stack.api.session_answer(session.id, question_id=waiting.question.id, answer="42")
    with pytest.raises(ApiError) as caught:
        stack.api.session_answer(session.id, question_id=waiting.question.id, answer="43")
    assert caught.value.status == 409
    ended = stack.session_wait(session.id, "completed")
    assert (ended.outcome, ended.question) == ("verified", None), stack.story(session.id)
    assert_done_once(stack, session.id)
    kinds = [event.type for event in stack.events(session.id)]
    assert kinds.count("QuestionAsked") == kinds.count("QuestionAnswered") == 1


def test_two_sessions_on_one_project_don_t_see_each_other(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    project = stack.project_make(repository)
    gate, both = Gate(), threading.Barrier(2)

    def meets(request: Request) -> Any:
        both.wait(60)
        return says(MEND, call("write_file", path=f"{request.user.split()[1]}.txt", content="mine\n"))

    server.answer = Agents([meets, runs("ls"), gate.holds(finishes())])
    gate.open()
    sessions = [
        stack.session_start(project, base_url=server.base_url, checks=[CHECK], goal=goal) for goal in ("One", "Two")
    ]
    for session, own, other in zip(sessions, ("One", "Two"), ("Two", "One"), strict=True):
        assert stack.session_wait(session.id, "completed").outcome == "verified", stack.story(session.id)
        assert [file.path for file in stack.api.session_diff(session.id).files] == [f"{own}.txt", "answer.txt"]
        [listing] = [
            request.results("run_command")[0]
            for request in server.requests
            if f"Task: {own}" in request.user and len(request.results("run_command")) == 1
        ]
        assert f"{own}.txt" in listing and f"{other}.txt" not in listing


def test_merging_moves_the_branch_once_and_never_over_somebody_else_s_work(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    project = stack.project_make(repository)
    first, second = (
        start(stack, project, server, [says(MEND), finishes()], goal=f"Goal {number}") for number in range(2)
    )
    for session in (first, second):
        stack.session_wait(session.id, "completed")
    merged = stack.api.session_command(first.id, "merge")
    head = stack.api.session_get(first.id).head_commit
    assert merged.merged_commit == head
    assert stack.api.session_command(first.id, "merge").merged_commit == head
    assert [event.type for event in stack.events(first.id)].count("SessionMerged") == 1
    assert stack.api.project_get(project.id).head_commit == head
    moved = refused(stack, second, "merge")
    assert "has moved" in moved.message and moved.next_step
    # The next session starts from what was merged, although the person's own checkout doesn't have it.
    stack.project_upload(project, repository)
    third = start(stack, project, server, [says(call("list_files")), finishes()], goal="Goal 3")
    assert third.base_commit == head
    ended = stack.session_wait(third.id, "completed")
    assert (ended.outcome, ended.reason and ended.reason.message) == ("unverified", "no file was changed")
    assert "nothing to merge" in refused(stack, third, "merge").message


def test_a_failing_branch_is_merged_only_on_request_and_a_discarded_one_never(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    project = stack.project_make(repository)
    wrong = call("edit_file", path="answer.txt", old_text="41", new_text="43")
    first, second = (start(stack, project, server, [says(wrong), finishes()]) for _ in range(2))
    for session in (first, second):
        assert stack.session_wait(session.id, "completed").outcome == "failing"
    assert "checks fail" in refused(stack, first, "merge").message
    assert stack.api.session_command(second.id, "discard").status == "completed"
    assert stack.api.session_command(second.id, "discard").status == "completed"
    assert "discarded" in refused(stack, second, "merge", allow_failing=True).message
    with pytest.raises(ApiError) as caught:
        stack.api.bundle_download(second.id, target=repository.parent / "bundle")
    assert caught.value.status == 409
    merged = stack.api.session_command(first.id, "merge", allow_failing=True)
    assert merged.merged_commit == stack.api.session_get(first.id).head_commit


def test_a_checkout_that_went_another_way_is_not_forced_on_the_server(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    project = stack.project_make(repository)
    session = start(stack, project, server, [says(MEND), finishes()])
    stack.session_wait(session.id, "completed")
    stack.api.session_command(session.id, "merge")
    (repository / "answer.txt").write_text("The answer is unknown.\n")
    git(repository, "commit", "-qam", "Another way")
    with pytest.raises(ApiError) as caught:
        stack.project_upload(project, repository)
    assert caught.value.status == 409 and caught.value.next_step


def test_a_project_is_not_deleted_under_a_running_session(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    gate = Gate()
    project = stack.project_make(repository)
    session = start(stack, project, server, [gate.holds(says(MEND)), finishes()])
    assert gate.reached.wait(60)
    with pytest.raises(ApiError) as caught:
        stack.api._request("DELETE", f"/api/projects/{project.id}/")
    assert caught.value.status == 409 and caught.value.next_step
    gate.open()
    assert stack.session_wait(session.id, "completed").outcome == "verified"
    stack.api._request("DELETE", f"/api/projects/{project.id}/")
    assert not list((stack.home / "repositories").glob(f"{project.id}.git"))
    with pytest.raises(ApiError) as caught:
        stack.api.session_get(session.id)
    assert caught.value.status == 404


def test_a_watcher_that_loses_its_connection_misses_nothing(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    gates = [Gate() for _ in range(4)]
    looks = [gate.holds(says(*[call("list_files")] * 3)) for gate in gates]
    session = start(stack, repository, server, [*looks, says(MEND), finishes()])
    seen: list[int] = []
    frames: list[dict[str, Any]] = []
    for gate in gates:
        assert gate.reached.wait(60)
        with watching(stack, session.id, after=len(seen)) as socket:
            gate.open()
            for _ in range(4):
                frames.append(frame := next_event(socket))
                seen.append(frame["event"]["seq"])
            socket.socket.close()  # as a cable that is pulled
    with watching(stack, session.id, after=len(seen)) as socket:
        while (frame := json.loads(socket.recv(timeout=60)))["type"] != "end":
            if frame["type"] == "event":
                frames.append(frame)
                seen.append(frame["event"]["seq"])
    assert frame == {"type": "end", "status": "completed"}
    assert seen == list(range(1, len(seen) + 1))
    stored = stack.events(session.id)
    assert [(frame["event"]["seq"], frame["event"]["type"], frame["event"]["payload"]) for frame in frames] == [
        (event.seq, event.type, event.payload) for event in stored
    ]


@contextmanager
def watching(stack: LiveStack, session_id: str, *, after: int) -> Iterator[Connection]:
    with connect(f"ws://{urlsplit(stack.url).netloc}/ws/agent/{session_id}/", proxy=None) as socket:
        socket.send(json.dumps({"type": "authenticate", "token": stack.api.token, "after": after}))
        assert json.loads(socket.recv(timeout=60))["type"] == "ready"
        yield socket


def next_event(socket: Connection) -> dict[str, Any]:
    while True:
        frame: dict[str, Any] = json.loads(socket.recv(timeout=60))
        if frame["type"] == "event":
            return frame


def test_a_plan_of_several_tasks_is_carried_out_in_order(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    def coder(request: Request) -> Any:
        title = request.user.partition("\n")[0].removeprefix("Task: ")
        if request.results():
            return finishes(f"{title} is done.")
        return says(MEND) if title == "Third" else runs(f"echo {title} >> log.txt")

    server.answer = Agents(coder, planner=[plans("First", "Second", "Third")])
    session = stack.session_start(
        repository, base_url=server.base_url, checks=[CHECK], agent_type="executor", goal="Three things."
    )
    assert stack.session_wait(session.id, "completed").outcome == "verified", stack.story(session.id)
    assert_done_once(stack, session.id)
    stack.api.bundle_download(session.id, target=repository.parent / "bundle")
    git(repository, "fetch", "-q", str(repository.parent / "bundle"), session.branch)
    assert git(repository, "log", "--format=%s", "--reverse", "HEAD..FETCH_HEAD").splitlines() == [
        "First",
        "Second",
        "Third",
    ]
