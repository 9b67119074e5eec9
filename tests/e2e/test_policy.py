"""Approvals and rules as a person has them: at the command line, against a running stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import repository_build
from tests.loopback.agents import Agents, call, finishes, runs, says
from tests.loopback.openai_server import OpenAIServer
from tests.stacks import LiveStack

CHECK = "grep -q 42 answer.txt"
MEND = "sed -i s/41/42/ answer.txt"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return repository_build(tmp_path / "small", {"answer.txt": "The answer is 41.\n", "key.pem": "secret\n"})


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(Agents()) as running:
        yield running
        assert running.refused == []


def test_a_call_is_seen_refused_unseen_and_approved(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    project = stack.project_make(repository)
    denied = stack.archon(
        "rules", "add", "deny", "--project", project.id, "--path", "*.pem", "--note", "keys", "--json"
    )
    rule = denied.document
    assert rule["effect"] == "deny", denied.errors
    server.answer = Agents([says(call("read_file", path="key.pem")), runs(MEND), finishes()])
    session = stack.session_start(project, base_url=server.base_url, checks=[CHECK], autonomy="auto-edit")
    waiting = stack.session_wait(session.id, "waiting_approval")
    assert waiting.approval is not None
    assert (waiting.approval.name, waiting.approval.arguments, waiting.approval.risk) == (
        "run_command", {"command": MEND}, "write",
    )  # fmt: skip
    # Whoever asks for nothing to be asked has approved nothing.
    watched = stack.archon("watch", session.id, "--yes")
    assert watched.code == 4, watched.errors
    assert MEND in watched.output + watched.errors and "archon approve" in watched.output + watched.errors
    unseen = stack.archon("approve", session.id)
    assert unseen.code == 2 and "--digest" in unseen.errors
    other = stack.archon("approve", session.id, "--digest", "0" * 64)
    assert other.code == 2 and "another one" in other.errors
    assert stack.api.session_get(session.id).status == "waiting_approval"
    approved = stack.archon("approve", session.id, "--digest", waiting.approval.digest[:12], "--always", "--json")
    assert approved.code == 0, approved.errors
    ended = stack.session_wait(session.id, "completed")
    assert ended.outcome == "verified" and ended.approval is None, stack.story(session.id)
    told = [request.results("read_file") for request in server.requests if request.results("read_file")]
    assert "not allowed" in told[0][0] and "keys" in told[0][0]
    rules = stack.archon("rules", "list", "--project", project.id, "--json").document["rules"]
    assert sorted((one["effect"], one["command"], one["path"]) for one in rules) == [
        ("allow", "sed -i s/41/42/ answer.txt", ""), ("deny", "", "*.pem"),
    ]  # fmt: skip
    assert stack.archon("rules", "edit", rule["id"][:8], "--effect", "ask", "--minutes", "5").code == 0
    assert stack.archon("rules", "remove", rule["id"][:8]).code == 0
    assert len(stack.api.rule_list(project_id=project.id)) == 1


def test_a_call_is_rejected_from_anywhere_and_a_session_observes(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    server.answer = Agents([runs("rm answer.txt"), finishes()])
    session = stack.session_start(repository, base_url=server.base_url, checks=["true"], autonomy="ask")
    stack.session_wait(session.id, "waiting_approval")
    assert stack.archon("approve", session.id, "--reject", "--message", "keep it").code == 0
    again = stack.archon("approve", session.id)
    assert again.code != 0
    ended = stack.session_wait(session.id, "completed")
    assert ended.outcome == "unverified", stack.story(session.id)
    assert "keep it" in server.requests[-1].results("run_command")[0]
    observing = stack.session_start(repository, base_url=server.base_url, checks=["true"], autonomy="observe")
    stack.session_wait(observing.id, "completed")
    offered = set(server.requests[-1].tools)
    assert "read_file" in offered and not offered & {"run_command", "edit_file", "write_file", "delete_file"}
