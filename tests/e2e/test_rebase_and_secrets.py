"""Two sessions on one project that both get merged, and a secret that leaves no trace: as a person does it."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import repository_build
from tests.launching import ROOT, environment
from tests.loopback.agents import Agents, finishes, runs
from tests.loopback.openai_server import OpenAIServer
from tests.stacks import LiveStack

pytestmark = pytest.mark.timeout(600)

CANARY = "canary-of-the-project/9+1"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(Agents()) as running:
        yield running
        assert running.refused == []


@pytest.mark.slow
def test_the_second_of_two_sessions_is_rebased_checked_and_merged(
    stack: LiveStack, server: OpenAIServer, tmp_path: Path
) -> None:
    project = stack.project_make(repository_build(tmp_path / "small", {"a.txt": "a\n", "b.txt": "b\n"}))
    ended = []
    for name in ("a", "b"):
        server.answer = Agents([runs(f"echo changed > {name}.txt"), finishes()])
        check = f"grep -q changed {name}.txt"
        session = stack.session_start(project, base_url=server.base_url, checks=[check])
        ended.append(stack.session_wait(session.id, "completed"))
    first, second = ended
    assert first.base_commit == second.base_commit
    assert stack.archon("merge", first.id, "--json").code == 0
    refused = stack.archon("merge", second.id, "--json")
    assert refused.code != 0 and "rebase" in refused.errors + refused.output
    rebased = stack.archon("rebase", second.id, "--json")
    assert rebased.code == 0 and rebased.document["status"] == "running"
    again = stack.session_wait(second.id, "completed")
    assert again.outcome == "verified" and again.base_commit != second.base_commit
    merged = stack.archon("merge", second.id, "--json")
    assert merged.code == 0 and merged.document["merged_commit"] == again.head_commit
    assert [event.type for event in stack.events(second.id)].count("SessionRebased") == 1
    # Once more: it was merged.
    assert stack.archon("rebase", second.id, "--json").code != 0


@pytest.mark.slow
def test_a_secret_reaches_the_command_and_neither_the_model_nor_a_log(
    stack: LiveStack, server: OpenAIServer, tmp_path: Path
) -> None:
    project = stack.project_make(repository_build(tmp_path / "small", {"answer.txt": "41\n"}))
    stored = subprocess.run(
        [sys.executable, "-P", "-m", "cli", "secrets", "set", "TOKEN", "--project", project.id, "--json"],
        input=f"{CANARY}\n",
        env=environment(stack.home, **{**stack.variables, "PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert stored.returncode == 0 and CANARY not in stored.stdout + stored.stderr, stored.stderr
    listed = stack.archon("secrets", "list", "--project", project.id, "--json")
    assert [secret["name"] for secret in listed.document["secrets"]] == ["TOKEN"]
    prints = (
        'echo "it is $TOKEN"; printf %s "$TOKEN" | base64; test ${#TOKEN} -eq ' + str(len(CANARY)) + " && echo whole"
    )
    server.answer = Agents([runs(prints), runs("echo 42 > answer.txt"), finishes()])
    session = stack.session_start(
        project, base_url=server.base_url, checks=["grep -q 42 answer.txt"], secrets=["TOKEN"]
    )
    assert stack.session_wait(session.id, "completed").outcome == "verified"
    result = next(text for request in server.requests for text in request.results("run_command"))
    assert "it is [secret TOKEN]" in result and "whole" in result
    encoded = base64.b64encode(CANARY.encode()).decode()
    sent = "\n".join(str(request.messages) for request in server.requests)
    logs = "\n".join(path.read_text(errors="replace") for path in (stack.home / "logs").glob("*.log"))
    told = stack.story(session.id) + stack.archon("show", session.id, "--json").output
    for where in (sent, logs, told):
        assert CANARY not in where and encoded not in where
    removed = stack.archon("secrets", "remove", "TOKEN", "--project", project.id, "--json")
    assert removed.code == 0
    assert stack.archon("secrets", "remove", "TOKEN", "--project", project.id, "--json").code != 0
