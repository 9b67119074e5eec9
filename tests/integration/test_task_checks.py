"""What shows that a task is done is run by the server; agents that only read do their tasks without a commit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession
from apps.agents.services.master_orchestrator import session_resume
from apps.agents.types import AgentType
from apps.authentication.models import User
from apps.planning.models import Task, TaskStatus
from apps.projects.models import Project
from apps.projects.services import project_update
from tests.api import client_for
from tests.integration.session_scene import (
    entry,
    events_of,
    messages_of,
    plan_of,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True)]

FILES = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "test_calc.py": (
        "import unittest\nimport calc\n\n\nclass AddTest(unittest.TestCase):\n"
        "    def test_add(self):\n        self.assertEqual(calc.add(2, 3), 5)\n"
    ),
}
RIGHT = "def add(a, b):\n    return a + b\n"
DONE = ("finish", {"summary": "done"})
ANSWER = "add subtracts in calc.py:2"


def plan(*tasks: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return "submit_plan", {
        "summary": "the plan",
        "features": [{"title": "all", "tasks": [dict(each) for each in tasks]}],
    }


def write(path: str, content: str) -> tuple[str, dict[str, Any]]:
    return "write_file", {"path": path, "content": content}


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def run(user: User, project: Project, *entries: dict[str, Any], **options: Any) -> AgentSession:
    return session_run(session_make(user, project, recording_write(entries), **options).id)


def task(session: AgentSession, title: str) -> Task:
    return Task.objects.get(session_id=session.id, title=title)


def said_to(session: AgentSession, role: str) -> str:
    return "\n".join(str(message["data"]["content"]) for who, message in messages_of(session.id) if who == role)


def test_a_task_is_done_when_its_own_checks_say_so(scene: tuple[User, Project]) -> None:
    """Also one before the last; a researcher's answer reaches the coder; what undoes it later is found at the end."""
    user, project = scene
    described = {"command": "grep -q negative NOTES.md", "name": "the notes tell of negative numbers"}
    session = run(
        user,
        project,
        entry(
            "planner",
            plan(
                {"title": "Look", "agent_type": "researcher", "type": "research"},
                {"title": "Describe", "checks": [described]},
                {"title": "Mend"},
            ),
        ),
        entry("researcher", ("finish", {"summary": ANSWER}), last_tool="read_file"),
        entry("researcher", ("read_file", {"path": "calc.py"})),
        entry("coder", DONE, last_tool="write_file"),
        entry("coder", write("NOTES.md", "adds negative numbers\n"), task="^Task: Describe", user="doesn't stand yet"),
        entry("coder", write("NOTES.md", "adds\n"), task=f"^Task: Describe[\\s\\S]*{ANSWER}"),
        entry("coder", DONE, task="^Task: Mend", last_tool="edit_file"),
        entry("coder", ("delete_file", {"path": "NOTES.md"}), ("edit_file", EDIT), task="^Task: Mend"),
    )
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    assert session.reason and "task T2: its check no longer holds at the end" in session.reason["message"]
    look, describe = task(session, "Look"), task(session, "Describe")
    assert (look.status, look.result, look.commit) == (TaskStatus.DONE, ANSWER, session.base_commit)
    assert (describe.status, describe.attempts) == (TaskStatus.DONE, 2)
    assert [(each["passed"], each["exit_code"]) for each in describe.check_results] == [(True, 0)]
    assert f"- Look: {ANSWER}" in said_to(session, "coder")
    told = [(event.payload["passed"], event.payload["checks"]) for event in events_of(session.id, "TaskVerified")]
    assert [passed for passed, _ in told] == [True, False, True, True]
    assert [each["exit_code"] for _, checks in told for each in checks] == [1, 0]
    [final] = events_of(session.id, "AcceptanceChecked")
    assert [(each["key"], each["passed"]) for each in final.payload["checks"]] == [("T2", False)]
    # The project's own checks were judged on the coder's commits alone, and are those of the last.
    assert [check["after"] for check in session.checks] == ["passed"]
    assert task(session, "Mend").commit == session.head_commit
    shown = client_for(user).get(f"/api/planning/tasks/{describe.id}/").json()
    assert shown["check_results"][0]["name"] == described["name"]


EDIT = {"path": "calc.py", "old_text": "a - b", "new_text": "a + b"}


@pytest.mark.slow
def test_a_session_whose_agents_only_read_has_nothing_to_check(scene: tuple[User, Project]) -> None:
    session = run(
        *scene,
        entry(
            "planner",
            plan(
                {"title": "Look", "agent_type": "researcher", "type": "research"},
                {"title": "Judge", "agent_type": "reviewer", "type": "review"},
            ),
        ),
        entry("researcher", ("finish", {"summary": ANSWER})),
        entry("reviewer", ("finish", {"summary": "it subtracts"}), task=ANSWER),
    )
    assert (session.status, session.outcome) == ("completed", "unverified"), session.reason
    assert session.reason and session.reason["message"] == "nothing was changed, so there was nothing to check"
    assert [event.payload["files"] for event in events_of(session.id, "TaskCommitted")] == [[], []]
    assert "Look" in session.report and ANSWER in session.report


def test_an_agent_that_has_taken_all_that_it_may_is_ended(scene: tuple[User, Project]) -> None:
    """A coder's task is given up for it, a planner has the session pause, and a resume begins its count anew."""
    user, project = scene
    agents = {
        "planner": {"steps": 2, "tools_off": ["locate"], "instructions": "Plan in one task."},
        "coder": {"tokens": 1},
    }
    project = project_update(project=project, agents=agents)
    session = run(
        user,
        project,
        entry("planner", plan_of("Mend"), seen=["the count begins anew"]),
        entry("planner", ("locate", {"text": "add"}), not_seen=["there is no tool named 'locate'"]),
        entry("planner", ("list_files", {})),
        entry("coder", ("list_files", {})),
    )
    assert session.agents == agents
    assert (session.status, session.reason and session.reason["code"]) == ("paused", "agent_limit_reached")
    prompt, told, *_ = [message["data"]["content"] for role, message in messages_of(session.id) if role == "planner"]
    assert prompt.startswith("You are Archon's planner") and "Plan in one task." not in prompt
    assert "Plan in one task." in str(told)
    project_update(project=project, agents={})
    session_resume(user=user, session_id=session.id)
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    [failed] = events_of(session.id, "TaskFailed")
    assert "the coder has taken" in failed.payload["reason"] and "tokens of the 1 that" in failed.payload["reason"]


@pytest.mark.slow
def test_a_researcher_alone_pauses_at_its_limit_of_time(scene: tuple[User, Project]) -> None:
    """What calls have taken is counted across workers."""
    user, project = scene
    project = project_update(project=project, agents={"researcher": {"seconds": 1}})
    session = run(
        user,
        project,
        {**entry("researcher", ("list_files", {})), "delay_ms": 600},
        agent_type=AgentType.RESEARCHER,
    )
    assert (session.status, session.reason and session.reason["code"]) == ("paused", "agent_limit_reached")
    assert session.reason and session.reason["details"]["limit"] == "seconds"


def test_what_a_project_says_of_its_agents_is_checked_and_kept(scene: tuple[User, Project]) -> None:
    user, project = scene
    client = client_for(user)
    address = f"/api/projects/{project.id}/"
    said = {"reviewer": {"rounds": 1, "threshold": "critical", "tools_off": ["run_checks"]}, "planner": {}}
    answer = client.patch(address, {"agents": said, "review": "always"})
    assert answer.status_code == 200, answer.json()
    assert (answer.json()["agents"], answer.json()["review"]) == ({"reviewer": said["reviewer"]}, "always")
    for wrong, why in (
        ({"tester": {}}, "agents.tester"),
        ({"coder": {"tools_off": ["finish"]}}, "finish can't be taken away"),
        ({"planner": {"tools_off": ["run_command"]}}, "run_command can't be taken away"),
        ({"coder": {"steps": 0}}, "agents.coder.steps"),
        ({"coder": {"rounds": 2}}, "agents.coder.rounds"),
    ):
        refused = client.patch(address, {"agents": wrong})
        assert refused.status_code == 400 and why in str(refused.json()), refused.json()
    shown = {each["role"]: each for each in client.get(f"/api/agents/profiles/?project={project.id}").json()}
    assert (shown["reviewer"]["rounds"], shown["reviewer"]["threshold"]) == (1, "critical")
    assert "run_checks" not in shown["reviewer"]["tools"] and "submit_review" in shown["reviewer"]["tools"]
    assert (
        shown["coder"]["steps"]
        == {each["role"]: each for each in client.get("/api/agents/profiles/").json()}["coder"]["steps"]
    )
    body = {"project": str(project.id), "goal": "x", "model": recording_write([entry("planner", plan_of("Mend"))])}
    made = client.post("/api/agents/sessions/", body).json()
    assert (made["review"], made["agents"]) == ("always", {"reviewer": said["reviewer"]})
    assert client.post("/api/agents/sessions/", {**body, "review": "never"}).json()["review"] == "never"
    assert client.patch(address, {"review": ""}).status_code == 200
    assert client.post("/api/agents/sessions/", body).json()["review"] == "auto"
    assert client.post("/api/agents/sessions/", {**body, "review": "sometimes"}).status_code == 400
