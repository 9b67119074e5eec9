"""A review as a person has it at the command line: what they say of the reviewer, and what they decide on findings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import repository_build
from tests.loopback.agents import Agents, call, finishes, runs, says
from tests.loopback.openai_server import OpenAIServer
from tests.loopback.wire import Reply, Request
from tests.stacks import LiveStack

CHECK = "grep -q 42 answer.txt"
WORDS = "Nothing in capitals."


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return repository_build(tmp_path / "small", {"answer.txt": "The answer is 41.\n"})


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(Agents()) as running:
        yield running
        assert running.refused == []


def test_a_person_says_what_the_reviewer_is_and_decides_on_what_it_found(
    stack: LiveStack, repository: Path, server: OpenAIServer, tmp_path: Path
) -> None:
    project = stack.project_make(repository)
    (tmp_path / "rules.md").write_text(WORDS)
    options = ("--rounds", "0", "--steps", "9", "--tools-off", "git_blame, locate", "--instructions")
    said = stack.archon("agents", project.id, "reviewer", *options, str(tmp_path / "rules.md"), "--json")
    assert said.code == 0, said.errors
    (profile,) = said.document["agents"]
    assert (profile["rounds"], profile["steps"], profile["tools_off"]) == (0, 9, ["git_blame", "locate"])
    assert stack.archon("agents", project.id, "reviewer", "--threshold", "critical").code == 0
    shown = stack.archon("agents", project.id, "reviewer")
    told = " ".join(shown.output.split())
    assert "9 steps" in told and "Findings from critical on" in told and WORDS in told
    assert WORDS not in stack.archon("agents", project.id).output
    for arguments, why in (
        (("tester",), "no role"),
        (("--steps", "3"), "name the role"),
        (("coder", "--tools-off", "fly"), "fly can't be taken away"),
        (("coder", "--rounds", "1"), "agents.coder.rounds"),
    ):
        refused = stack.archon("agents", project.id, *arguments)
        assert refused.code == 2 and why in refused.errors, refused.errors

    finding = {"path": "answer.txt", "line": 1, "severity": "critical", "comment": "It shouts."}
    agents = Agents([runs("echo THE ANSWER IS 42. > answer.txt"), finishes()])

    def answer(request: Request) -> Reply:
        if "submit_review" in request.tools:
            return says(call("submit_review", summary="It shouts.", findings=[finding]))
        return agents(request)

    server.answer = answer
    session = stack.session_start(project, base_url=server.base_url, checks=[CHECK], review="always")
    waiting = stack.session_wait(session.id, "waiting_input")
    assert waiting.question is not None and "[1.1] answer.txt:1 (critical): It shouts." in waiting.question.text
    (asked,) = [request for request in server.requests if "submit_review" in request.tools]
    assert "locate" not in asked.tools and "     1 +THE ANSWER IS 42." in asked.user
    assert WORDS in asked.user
    assert stack.archon("answer", session.id, "accept it").code == 0
    assert stack.session_wait(session.id, "completed").outcome == "verified", stack.story(session.id)
    watched = stack.archon("watch", session.id).output
    assert "review 1: unresolved: answer.txt:1 critical" in watched and "decided on: accept" in watched
