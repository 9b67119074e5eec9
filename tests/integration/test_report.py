"""The report of a session that really ran: the same from its rows as at its end, and there while it runs."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession
from apps.agents.services import markdown_safe as safe
from apps.planning.models import Task
from tests.api import client_for
from tests.builders import session_build
from tests.integration.session_scene import entry, project_make, recording_write, session_make, session_run

pytestmark = pytest.mark.django_db(transaction=True)


def test_of_a_session_that_ran(tmp_path: Path, settings: Any) -> None:
    user, project = project_make(tmp_path / "repository", {"calc.py": "def add(a, b):\n    return a - b\n"})
    plan = {
        "summary": "Mend add",
        "features": [
            {"title": "Sums", "tasks": [{"title": "Mend it"}, {"title": "Break it", "depends_on": []}]},
        ],
    }
    mended = ("write_file", {"path": "calc.py", "content": "def add(a, b):\n    return a + b\n"})
    broken = ("write_file", {"path": "calc.py", "content": "def add(a, b):\n    return 'x'\n"})
    model = recording_write(
        [
            entry("planner", ("submit_plan", plan)),
            entry("coder", ("finish", {"summary": "Adds now, for @everybody."}), task="^Task: Mend", seen=["^write_f"]),
            entry("coder", mended, task="^Task: Mend"),
            entry("coder", ("finish", {"summary": "Tried."}), task="^Task: Break", seen=["^write_f"]),
            entry("coder", broken, task="^Task: Break"),
        ]
    )
    check = "python3 -c 'import calc; assert calc.add(1, 2) == 3, calc.add(1, 2)'"
    session = session_run(session_make(user, project, model, checks=[check], goal="Mend calc").id)
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    # What the reviewer and the task's own checks are kept as.
    finding = {"path": "calc.py", "line": 2, "severity": "major", "comment": "Why?", "resolved": True}
    acceptance = {"name": "adds", "command": "true", "passed": True, "exit_code": 0, "output": ""}
    Task.objects.filter(title="Mend it").update(findings=[finding], check_results=[acceptance])

    client = client_for(user)
    address = f"/api/agents/sessions/{session.id}/report/"
    answer = client.get(address)
    text = answer.content.decode()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/markdown; charset=utf-8")
    assert client.get(address).content.decode() == text
    told = client.get(f"{address}?format=json").json()
    assert told["markdown"] == text == client.get(address, HTTP_ACCEPT="application/json").json()["markdown"]
    assert (told["final"], told["outcome"], told["title"]) == (True, "failing", "Mend calc")
    mend, failed = told["features"][0]["tasks"]
    assert (mend["status"], mend["files"], mend["attempts"]) == ("done", ["calc.py"], 1)
    assert mend["commit"][:10] in text and "Adds now, for @&#8203;everybody." in text
    assert "- major, resolved, `calc.py:2`: Why?" in text and "Check `adds`: passed" in text
    assert failed["status"] == "failed" and failed["reason"] and "## What was not done" in text
    assert "AssertionError" in text and told["checks"][0]["after"] == "failed"
    assert told["spending"]["steps"] == 7 and told["spending"]["seconds"] is not None
    assert f"archon fetch {session.id}" in text
    # The row keeps the same in short.
    assert "- [x] Mend it" in session.report and "- [ ] Break it" in session.report
    assert "failed" in session.report and "Models: `scripted:" in session.report


@pytest.mark.parametrize("value", ["p@ss$w*rd_!7<x>", "plainword-4711"])
def test_no_secret_of_the_project_is_in_it_whatever_markdown_makes_of_it(tmp_path: Path, value: str) -> None:
    """One, too, that was stored after it was said."""
    user, project = project_make(tmp_path / "repository", {"a.txt": "a"})
    session = session_build(user=user, project=project, goal=f"Log in with {value}\n\nand `{value}`")
    client = client_for(user)
    stored = client.post(f"/api/projects/{project.id}/secrets/", {"name": "LOGIN", "value": value})
    assert stored.status_code in (200, 201), stored.json()
    address = f"/api/agents/sessions/{session.id}/report/"
    text, told = client.get(address).content.decode(), client.get(f"{address}?format=json").json()
    assert "secret LOGIN" in text and "[secret LOGIN]" in told["title"] and "[secret LOGIN]" in told["goal"]
    assert value not in repr((text, told)) and safe.inline(value) not in text


def test_before_anything_has_happened(tmp_path: Path) -> None:
    user, project = project_make(tmp_path / "repository", {"a.txt": "a"})
    session = session_build(user=user, project=project, goal="Do | this")
    client = client_for(user)
    text = client.get(f"/api/agents/sessions/{session.id}/report/").content.decode()
    assert text.startswith("# Do \\| this") and "pending: this is what there is so far" in text
    assert client.get(f"/api/agents/sessions/{uuid.uuid4()}/report/").status_code == 404
    assert AgentSession.objects.get(id=session.id).report == ""
