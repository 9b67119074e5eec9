"""A plan that waits for a person, and a question's answer, as a person has them at the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import repository_build
from tests.loopback.agents import Agents, call, finishes, plans, runs, says
from tests.loopback.openai_server import OpenAIServer
from tests.stacks import LiveStack

pytestmark = pytest.mark.slow
MEND = "sed -i s/41/42/ answer.txt"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return repository_build(tmp_path / "small", {"answer.txt": "The answer is 41.\n"})


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(Agents()) as running:
        yield running
        assert running.refused == []


def test_a_plan_is_seen_sent_back_and_approved(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    server.answer = Agents([runs(MEND), finishes()], planner=[plans("Guess"), plans("Mend the answer")])
    session = stack.session_start(
        repository,
        base_url=server.base_url,
        checks=["grep -q 42 answer.txt"],
        agent_type="executor",
        autonomy="observe",
        review="never",
    )
    waiting = stack.session_wait(session.id, "waiting_approval")
    assert waiting.plan_approval is not None and waiting.approval is None
    assert [task.title for task in waiting.plan_approval.tasks] == ["Guess"]
    watched = stack.archon("watch", session.id, "--yes")
    told = watched.output + watched.errors
    assert watched.code == 4 and "Guess" in told and "--version 1 --autonomy ask" in told and "likely" in told, told
    unseen = stack.archon("approve", session.id)
    assert unseen.code == 2 and "--version" in unseen.errors
    assert "version 1 of the plan waits" in stack.archon("approve", session.id, "--version", "2").errors
    looks = stack.archon("approve", session.id, "--version", "1")
    assert looks.code == 2 and f"archon autonomy {session.id} ask" in looks.errors
    assert stack.archon("approve", session.id, "--reject", "--message", "Mend it.").code == 0
    stack.event_wait(session.id, "PlanApprovalRequested", version=2)
    stack.session_wait(session.id, "waiting_approval")
    assert "Mend the answer" in stack.archon("show", session.id).output
    approved = stack.archon("approve", session.id, "--version", "2", "--autonomy", "auto", "--json")
    assert approved.code == 0 and approved.document["decision"] == "approve", approved.errors
    ended = stack.session_wait(session.id, "completed")
    assert (ended.outcome, ended.autonomy) == ("verified", "auto"), stack.story(session.id)
    told = stack.archon("watch", session.id).output
    assert "plan sent back: Mend it." in told and "plan approved: version 2" in told


def test_a_question_is_answered(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    cited = [{"path": "answer.txt", "start_line": 1}]
    server.answer = Agents(planner=[says(call("answer", text="It is 41.", citations=cited))])
    session = stack.session_start(
        repository, base_url=server.base_url, goal="What is the answer?", checks=["true"], agent_type="executor"
    )
    ended = stack.session_wait(session.id, "completed")
    assert ended.outcome == "unverified" and ended.report.startswith("It is 41.\n\nSources:\n- `answer.txt:1`")
    shown = stack.archon("show", session.id, "--json").document
    assert shown["answer"]["citations"] == [{"path": "answer.txt", "start_line": 1, "end_line": 1}]
    assert "answered, from answer.txt" in stack.archon("watch", session.id).output
