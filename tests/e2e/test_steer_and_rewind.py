"""Speaking to a session at work and taking it back, as a person does it at a terminal and a program over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loopback.agents import Agents, Gate, call, finishes, runs, says
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.processes import wait_until
from tests.sandboxing import marker, processes_alive
from tests.small_repository import CHECK, MEND, repository, server
from tests.stacks import LiveStack, archon_bounded

# pytest finds fixtures by their names in a file.
__all__ = ["repository", "server"]


def heard(server: OpenAIServer, text: str) -> int:
    """In how many messages of the last request this was said."""
    return sum(text in str(message["content"]) for message in server.requests[-1].messages if message["role"] == "user")


def test_a_word_to_a_session_at_work_is_heard_next(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    gate = Gate()
    server.answer = Agents([runs("true"), gate.holds(says(MEND)), finishes()])
    session = stack.session_start(repository, base_url=server.base_url, checks=[CHECK])
    assert gate.reached.wait(60)
    refused = stack.archon("say", session.id, "x", "--more-steps", "3", "--json")
    assert refused.code == 2 and "running" in refused.document["error"]["message"]
    said = stack.archon("say", session.id, "Mind the gap.", "--json")
    assert (said.code, said.document) == (0, {"session_id": session.id, "steered": True})
    gate.open()
    assert stack.session_wait(session.id, "completed").outcome == "verified"
    assert heard(server, "Mind the gap.") == 1
    assert not any(
        "Mind the gap." in str(request.messages) for request in server.requests[:2]
    ), "it was heard before it was said"


@pytest.mark.slow
def test_a_word_that_meets_the_end_makes_the_session_go_on(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    """It comes while the server runs the checks, when no call of the model is to follow."""

    def coder(request: Request) -> Reply:
        if "One thing more." in str(request.messages):
            return (
                finishes() if request.results("write_file") else says(call("write_file", path="more.txt", content="x"))
            )
        return finishes() if request.results("edit_file") else says(MEND)

    server.answer = Agents(coder)
    session = stack.session_start(repository, base_url=server.base_url, checks=[f"sleep 3; {CHECK}"])
    stack.event_wait(session.id, "PhaseChanged", phase="verifying")
    stack.api.session_steer(session.id, text="One thing more.", key="k")
    ended = stack.session_wait(session.id, "completed")
    assert ended.outcome == "verified", stack.story(session.id)
    assert {file["path"] for file in stack.api.session_diff(session.id).model_dump()["files"]} == {
        "answer.txt",
        "more.txt",
    }
    assert [event.payload["turn"] for event in stack.events(session.id) if event.type == "SessionReopened"] == [1]


def test_a_session_is_taken_back_and_goes_on_otherwise(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    def coder(request: Request) -> Reply:
        if not request.results("edit_file"):
            return says(MEND)
        if not request.results("run_command"):
            return runs("echo quiet > tone.txt" if "quietly" in str(request.messages) else "echo loud > tone.txt")
        return finishes()

    server.answer = Agents(coder)
    session = stack.session_start(repository, base_url=server.base_url, checks=[CHECK])
    assert stack.session_wait(session.id, "completed").outcome == "verified"
    assert "+loud" in stack.api.session_diff(session.id).diff
    spent = stack.api.session_get(session.id).usage.steps
    steps = stack.archon("steps", session.id[:8], "--json").document["steps"]
    edited = next(step["seq"] for step in steps if step["summary"].startswith("edit_file"))
    shown = stack.archon("steps", session.id[:8])
    assert shown.code == 0 and str(edited) in shown.output and "edit_file" in shown.output
    assert stack.archon("rewind", session.id, "--to", str(edited)).code == 2, "nobody confirmed it"
    assert stack.archon("rewind", session.id, "--to", "99999", "--yes").code == 2
    back = stack.archon("rewind", session.id, "--to", str(edited), "--yes", "--json").document
    assert (back["status"], back["outcome"], back["reason"]["code"]) == ("paused", None, "rewound")
    assert stack.api.session_diff(session.id).diff == ""
    assert stack.archon("say", session.id, "Do it quietly.").code == 0
    assert stack.archon("resume", session.id).code == 0
    ended = stack.session_wait(session.id, "completed")
    assert ended.outcome == "verified", stack.story(session.id)
    diff = stack.api.session_diff(session.id).diff
    assert "+quiet" in diff and "loud" not in diff and "+The answer is 42." in diff
    assert ended.usage.steps > spent, "what was spent was taken back"
    last = server.requests[-1]
    assert heard(server, "quietly") == 1 and len(last.results("edit_file")) == 1


@pytest.mark.parametrize("command", ["pause", "cancel"])
def test_a_daemon_that_ignores_signals_is_gone(
    stack: LiveStack, repository: Path, server: OpenAIServer, command: str
) -> None:
    mark = marker()
    daemon = f"trap '' TERM INT HUP; (setsid sh -c '(sleep {mark} &); sleep {mark}' &); sleep {mark}"
    server.answer = Agents([runs(daemon), says(MEND), finishes()])
    session = stack.session_start(repository, base_url=server.base_url, checks=[CHECK])
    stack.event_wait(session.id, "ToolStarted")
    assert wait_until(lambda: len(processes_alive(mark)) >= 3)
    stack.api.session_command(session.id, command)
    assert wait_until(lambda: not processes_alive(mark), seconds=10)
    stopped = [event.payload["name"] for event in stack.events(session.id) if event.type == "ToolStopped"]
    assert stopped == ["run_command"]
    assert stack.events(session.id)[-1].type == {"pause": "SessionPaused", "cancel": "SessionCancelled"}[command]


@pytest.mark.slow
def test_the_benchmark_sees_every_session_obey(archon_home: Path) -> None:
    """Small; what it measures is nobody's to assert here."""
    ran = archon_bounded(archon_home, "bench", "control", "--json", "--rounds", "1", seconds=400)
    assert ran.code == 0, ran.errors
    report = ran.document
    assert (report["survivors"], report["unexpected"], report["rounds"]) == (0, [], 1)
    assert set(report["pause"]) == {"model", "command", "daemon", "daemon_without_redis"}
    assert all(report[name]["p50"] > 0 for name in ("pause_s", "resume_s", "cancel_s", "steer_s"))
