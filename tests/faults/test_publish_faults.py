"""Publishing as a person does it, with workers that die in the middle: one branch, one pull request, one word of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import git, repository_build
from tests.killing import Arrival, KillPoints, kill_points_open
from tests.loopback.agents import Agents, finishes, runs
from tests.loopback.forge_server import ForgeServer
from tests.loopback.git_server import GitServer, git_server_run
from tests.loopback.openai_server import OpenAIServer
from tests.stacks import LiveStack, home_open, stack_open

pytestmark = pytest.mark.timeout(900)

TOKEN = "tok-CANARY-0815"
NAME = "team/app"


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[GitServer]:
    repository_build(tmp_path / "work", {"answer.txt": "41\n"})
    git(tmp_path / "work", "clone", "--quiet", "--bare", ".", str(tmp_path / "served" / f"{NAME}.git"))
    with git_server_run(tmp_path / "served", tmp_path / "keys", tls=False) as server:
        server.tokens["team"] = TOKEN
        yield server


@pytest.fixture
def forge(origin: GitServer) -> Iterator[ForgeServer]:
    with ForgeServer("gitea", token=TOKEN) as server:
        server.repository_add(NAME, origin.folder / f"{NAME}.git")
        yield server
        assert server.refused == []


@pytest.fixture
def points() -> Iterator[KillPoints]:
    with kill_points_open() as opened:
        yield opened


@pytest.fixture
def stack(points: KillPoints) -> Iterator[LiveStack]:
    variables = {"ARCHON_PRIVATE_HOSTS": "127.0.0.1", "ARCHON_KILL_POINTS": str(points.path)}
    with home_open() as home, stack_open(home, **variables) as running:
        yield running


def test_killed_in_the_middle(
    stack: LiveStack, origin: GitServer, forge: ForgeServer, points: KillPoints, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    cloned = stack.archon("clone", origin.url(f"{NAME}.git"), "--token-file", str(token), "--json")
    project = stack.api.project_get(cloned.document["id"])
    told = stack.archon("forge", project.id)
    assert "--kind" in told.output and told.code == 0, told
    told = stack.archon("forge", project.id, "--kind", "gitea", "--api-url", forge.api_url)
    assert f"{NAME} on gitea" in told.output and "the token that the repository is fetched with" in told.output
    with OpenAIServer(Agents([runs("echo 42 > answer.txt"), finishes()])) as model:
        session = stack.session_start(project, base_url=model.base_url, checks=["grep -q 42 answer.txt"])
        session = stack.session_wait(session.id, "completed")

    killed: list[str] = []

    def decide(arrival: Arrival) -> None:
        if arrival.point.startswith("publish.") and arrival.point not in killed:
            killed.append(arrival.point)
            os.kill(arrival.pid, signal.SIGKILL)

    points.decide = decide
    pushed = stack.archon("push", session.id, "--pull-request", "--title", "Forty-two", seconds=400)
    assert pushed.code == 0, pushed
    assert killed == ["publish.pushed", "publish.opened"]
    repository = forge.repositories[NAME]
    [pull] = repository.pulls
    assert (pull.title, pull.draft, repository.commit(pull.head)) == ("Forty-two", False, session.head_commit)
    assert pushed.output.strip().endswith(f"{forge.url}/{NAME}/pulls/1")
    events = [event for event in stack.events(session.id) if event.type == "SessionPublished"]
    assert [event.payload["url"] for event in events] == [f"{forge.url}/{NAME}/pulls/1"]

    report = stack.archon("report", session.id)
    assert report.code == 0 and report.output.startswith("# ") and pull.head in report.output
    path = tmp_path / "report.md"
    written = stack.archon("report", session.id, "-o", str(path), "--json")
    assert path.read_text() == written.document["markdown"] + "\n" and "Outcome: **verified**" in path.read_text()
    refused = stack.archon("push", session.id, "--branch", "main")
    assert refused.code == 2 and "name another one" in refused.errors
    logs = "".join(log.read_text(errors="replace") for log in (stack.home / "logs").glob("*.log"))
    assert TOKEN not in logs and TOKEN not in pull.body
