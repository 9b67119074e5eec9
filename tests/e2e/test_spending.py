"""What sessions spend together, seen and limited as people do it: by the command line, against a running stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import repository_build
from tests.loopback.agents import Agents, call, finishes, says
from tests.loopback.openai_server import OpenAIServer
from tests.stacks import LiveStack

pytestmark = pytest.mark.timeout(600)


def limits(stack: LiveStack, command: str, *options: str) -> dict[str, Any]:
    ran = stack.archon("limits", command, *options, "--json")
    assert ran.code == 0, ran.output + ran.errors
    return ran.document


@pytest.mark.slow
def test_a_session_at_its_projects_limit_is_paused_with_the_reason_and_goes_on_once_it_is_raised(
    stack: LiveStack, tmp_path: Path
) -> None:
    project = stack.project_make(repository_build(tmp_path / "limited", {"data.txt": "x\n"}))
    assert limits(stack, "set", "--project", project.id, "--day-steps", "2")["day"]["limits"]["steps"] == 2
    turns = [says(call("list_files"))] * 3
    with OpenAIServer(Agents([*turns, says(call("write_file", path="a.txt", content="a\n")), finishes()])) as server:
        session = stack.session_start(project, base_url=server.base_url, checks=["true"])
        paused = stack.session_wait(session.id)
        assert paused.status == "paused" and paused.reason is not None, stack.story(session.id)
        assert paused.reason.code == "budget_exceeded"
        assert paused.reason.message == (
            "the project's limit of 2 model calls a day is reached: 2 are spent, and the next call needs up to 1"
        )
        assert f"./archon limits set --project {project.id} --day-steps AMOUNT" in paused.reason.next_step
        assert paused.reason.details["scope"] == "project" and paused.reason.details["spent"] == "2"
        assert len(server.requests) == 2
        # Resumed without more, it is where it was; nothing was asked.
        assert stack.archon("resume", session.id).code == 0
        assert stack.session_wait(session.id, "paused").status == "paused"
        assert len(server.requests) == 2
        limits(stack, "set", "--project", project.id, "--day-steps", "none", "--sessions", "1")
        assert stack.archon("resume", session.id).code == 0
        done = stack.session_wait(session.id)
    assert (done.status, done.outcome) == ("completed", "verified"), stack.story(session.id)
    spent = limits(stack, "show", "--project", project.id)
    assert (
        spent["day"]["spent"]["steps"] == spent["total"]["spent"]["steps"] == len(server.requests) == done.usage.steps
    )
    assert (spent["day"]["limits"]["steps"], spent["sessions"]) == (None, 1)

    usage = stack.archon("usage", "--by", "session", "--project", project.id, "--json")
    [row] = usage.document["usage"]
    assert (row["key"], row["calls"]) == (session.id, len(server.requests))
    assert row["input_tokens"] == done.usage.input_tokens and row["cost_usd"] == done.usage.cost_usd
    shown = stack.archon("usage", "--by", "day", "--project", project.id)
    assert shown.code == 0 and "calls" in shown.output
    assert "sessions at once" in stack.archon("limits", "show", "--project", project.id).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("limits", "set"), "no limit is named"),
        (("limits", "set", "--steps", "many"), "is no limit of steps"),
        (("limits", "set", "--cost-usd", "a lot"), "is no limit of cost_usd"),
        (("limits", "set", "--sessions", "5"), "only an administrator"),
        (("limits", "show", "--project", "nowhere-to-be-found"), "no project has this name"),
        (("limits", "show", "--user", "../../me"), "no such address"),
        (("usage", "--by", "planet"), "planet"),
        (("usage", "--from", "yesterday"), "from"),
    ],
)
def test_what_cannot_be_is_told(stack: LiveStack, arguments: tuple[str, ...], words: str) -> None:
    ran = stack.archon(*arguments, "--json")
    assert ran.code == 2, ran.output + ran.errors
    assert words.lower() in ran.document["error"]["message"].lower(), ran.document
