"""``archon plan`` as a person uses it: as a file, in an editor, by commands, and while a session carries it out."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.launching import ROOT, environment
from tests.loopback.agents import Agents, Gate, call, finishes, plans, says, task_title
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.small_repository import CHECK, MEND, repository, server
from tests.stacks import PATIENCE_SECONDS, LiveStack

# pytest finds fixtures by their names in a file.
__all__ = ["repository", "server"]

PLAN = """# Read and print

## F1 · Parse

- [ ] T1 · Lexer
  - files: answer.txt
- [ ] T2 · Grammar
  - needs: T1

## F2 · Print

- [ ] T3 · Printer
  - needs: T2
"""
#: Breaks the plan, and mends it when it is called again.
EDITOR = """#!/bin/sh
if grep -q 'needs: T9' "$1"; then sed -i 's/needs: T9/needs: T1/' "$1"
else sed -i 's/Grammar/A grammar/; s/needs: T1/needs: T9/' "$1"; fi
"""


def keys_of(document: dict[str, object], **wanted: object) -> list[str]:
    """The tasks of a plan that have these members."""
    features = document["features"]
    assert isinstance(features, list)
    tasks = [task for feature in features for task in feature["tasks"]]
    return [task["key"] for task in tasks if wanted.items() <= task.items()]


def typed(stack: LiveStack, *arguments: str, answers: str, **variables: str) -> tuple[int, str]:
    """A command at a terminal, where these answers are typed whenever it asks; its exit code and what it showed."""
    master, slave = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env=environment(stack.home, TERM="dumb", **stack.variables, **variables),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown, left, deadline = "", list(answers), time.monotonic() + PATIENCE_SECONDS
    try:
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.2)[0]:
                try:
                    read = os.read(master, 65536)
                except OSError:
                    break
                if not read:
                    break
                shown += read.decode(errors="replace")
                if left and re.search(r"\]: $", shown):
                    os.write(master, f"{left.pop(0)}\n".encode())
        return program.wait(30), shown
    finally:
        program.kill()
        os.close(master)


@pytest.mark.slow
def test_a_plan_is_written_read_and_changed(stack: LiveStack, repository: Path, tmp_path: Path) -> None:
    project = stack.project_make(repository)
    file, editor = tmp_path / "plan.md", tmp_path / "editor"
    file.write_text(PLAN)
    made = stack.archon("plan", "import", str(file), "--project", project.id, "--goal", "A calculator", "--json")
    assert made.code == 0, made.errors
    plan = str(made.document["id"])[:8]
    assert (made.document["status"], made.document["version"]) == ("waiting", 1)

    shown = stack.archon("plan", "show", plan)
    assert shown.code == 0 and "Read and print" in shown.output
    assert shown.output.splitlines()[4:6] == ["- F1 Parse (pending)", "  - T1 Lexer (pending)"]
    assert "needs T1" in shown.output and "It waits for approval" in shown.output
    assert "T2 Grammar (pending) <- T1" in stack.archon("plan", "diagram", plan).output
    assert stack.archon("plan", "diagram", plan, "--mermaid").output.startswith("flowchart")

    added = stack.archon(
        *("plan", "add", plan, "Docs", "--feature", "F2", "--first", "--type", "docs", "--needs", "T1"),
        *("--check", "test -f answer.txt", "--instructions", f"@{file}", "--reason", "nobody knew"),
    )
    assert added.code == 0 and added.output.startswith("+ task T4 Docs (in F2)"), added.errors
    steps = (
        ("set", plan, "T1", "--title", "A lexer", "--file", ""),
        ("skip", plan, "T2", "t4"),
        ("unskip", plan, "T4"),
        ("hold", plan, "F2", "--why", "not yet"),
        ("release", plan, "F2"),
        ("hold", plan, "T1"),
        ("move", plan, "T4", "--into", "F1"),
        ("move", plan, "T3", "--after", "T4"),
        ("split", plan, "T3", "Print words", "Print lines"),
        ("remove", plan, "F2"),
    )
    for step in steps:
        ran = stack.archon("plan", *step)
        assert ran.code == 0 and "Version" in ran.output, (step, ran.errors, ran.output)
    now = stack.archon("plan", "show", plan, "--json").document
    assert now["version"] == 2 + len(steps)
    assert [feature["key"] for feature in now["features"]] == ["F1"]
    assert keys_of(now) == ["T1", "T2", "T4", "T5", "T6"]
    assert (keys_of(now, status="skipped"), keys_of(now, blocked_reason="a person holds it")) == (["T2"], ["T1"])
    assert keys_of(now, files=[], title="A lexer") == ["T1"] and keys_of(now, type="docs", needs=["T1"]) == ["T4"]

    history = stack.archon("plan", "history", plan)
    assert "nobody knew" in history.output and "version 12" in history.output
    difference = stack.archon("plan", "diff", plan, "1", "2").output
    assert "+ task T4 Docs (in F2)" in difference
    back = stack.archon("plan", "restore", plan, "2")
    assert back.code == 0 and keys_of(stack.archon("plan", "show", plan, "--json").document) == ["T1", "T2", "T4", "T3"]

    editor.write_text(EDITOR)
    editor.chmod(0o755)
    code, text = typed(stack, "plan", "edit", plan, "--reason", "by hand", answers="e", EDITOR=str(editor))
    assert code == 0, text
    assert "T9" in text and "+A grammar" in text and "Version 14" in text
    listed = stack.archon("plan", "list", "--project", project.id, "--status", "waiting", "--words", "calculator")
    assert plan in listed.output and "0/4" in listed.output
    exported = stack.archon("plan", "export", plan)
    assert "A grammar" in exported.output
    stale = stack.archon("plan", "import", str(file), "--plan", plan, "--json")
    assert stale.code == 0, "a file of one's own replaces the plan"


def test_what_cannot_be_done_is_told(stack: LiveStack, repository: Path, tmp_path: Path) -> None:
    project = stack.project_make(repository)
    file = tmp_path / "plan.md"
    file.write_text(PLAN)
    plan = str(stack.archon("plan", "import", str(file), "--project", project.id, "--json").document["id"])
    for arguments, code, said in (
        (("plan", "show", "abc"), "not_found", "too short"),
        (("plan", "show", "00000000"), "not_found", "no plan or session"),
        (("plan", "skip", plan, "T1", "T9"), "not_found", "T9"),
        (("plan", "set", plan, "T1", "--priority", "high"), "invalid_input", "a task has no priority"),
        (("plan", "set", plan, "T1", "--needs", "T3"), "plan_refused", "wait for each other"),
        (("plan", "set", plan, "T1", "--check", "pytest missing_tests"), "plan_refused", "missing_tests"),
        (("plan", "import", str(file)), "invalid_input", "--project or --plan"),
        (("plan", "list", "--status", "gone"), "invalid_input", "withdrawn"),
        (("plan", "list", "--project", "nowhere"), "not_found", "archon projects"),
        (("plan", "run", plan), "conflict", "archon plan approve"),
    ):
        ran = stack.archon(*arguments, "--json")
        assert (ran.code, ran.document["error"]["code"]) == (2, code), (arguments, ran.output)
        assert said in str(ran.document["error"]), (arguments, ran.output)
    assert stack.archon("plan", "edit", plan).code == 2, "nobody is at a terminal"
    assert stack.archon("plan", "show", plan, "--json").document["version"] == 1


def test_a_plan_is_changed_while_its_session_runs(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    gate = Gate()

    def coder(request: Request) -> Reply:
        if task_title(request) == "Say more":
            written = request.results("write_file")
            return finishes() if written else says(call("write_file", path="more.txt", content="more\n"))
        if request.results("edit_file"):
            return finishes()
        reply = gate.holds(says(MEND))
        return reply if isinstance(reply, Reply) else reply(request)

    server.answer = Agents(coder)
    session = stack.session_start(repository, base_url=server.base_url, checks=[CHECK])
    assert gate.reached.wait(60)
    told = stack.archon("plan", "set", session.id[:8], "T1", "--instructions", "Mind the gap.", "--json")
    assert told.code == 0, told.errors
    added = stack.archon("plan", "add", session.id[:8], "Say more", "--needs", "T1", "--reason", "one thing more")
    assert added.code == 0 and "+ task T2 Say more" in added.output, added.errors
    gate.open()
    assert stack.session_wait(session.id, "completed").outcome == "verified", stack.story(session.id)
    assert "Mind the gap." in str(server.requests[1].messages) and "Mind the gap." not in str(
        server.requests[0].messages
    )
    assert {file["path"] for file in stack.api.session_diff(session.id).model_dump()["files"]} == {
        "answer.txt",
        "more.txt",
    }
    watched = stack.archon("watch", session.id[:8]).output
    assert "plan, version 3: one thing more" in watched
    refused = stack.archon("plan", "skip", session.id, "T2", "--json")
    assert refused.document["error"]["code"] == "plan_refused" and "T2 is done" in refused.document["error"]["message"]


def test_a_plan_of_ones_own_is_approved_and_carried_out(
    stack: LiveStack, repository: Path, server: OpenAIServer, tmp_path: Path
) -> None:
    server.answer = Agents([says(MEND), finishes()])
    project = stack.project_make(repository)
    file = tmp_path / "plan.md"
    file.write_text(f"# Mend it\n\n- [ ] Mend the answer\n  - check: {CHECK}\n")
    made = stack.archon("plan", "import", str(file), "--project", project.id, "--json").document
    plan = made["id"][:8]
    unseen = stack.archon("plan", "approve", plan)
    assert unseen.code == 2 and "--version 1" in unseen.errors
    early = stack.archon("plan", "run", plan, "--detach", "--json")
    assert early.code == 2 and "waits for approval" in early.document["error"]["message"]
    code, text = typed(stack, "plan", "approve", plan, answers="y")
    assert code == 0 and "Mend the answer" in text and "Approved." in text, text
    ran = stack.archon("plan", "run", plan, "--model", f"openai:loopback@{server.base_url}", "--json")
    # Its own check passed; the project has none.
    assert (ran.code, ran.document["outcome"]) == (3, "unverified") and "42" in ran.document["diff"], ran.output
    assert stack.archon("plan", "show", plan, "--json").document["sessions"][0]["id"] == ran.document["session_id"]


def test_planners_make_and_revise_plans_at_the_command_line(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    def planner(request: Request) -> Reply:
        more = ["Document it"] if "Say it in the docs" in str(request.messages) else []
        return plans("Mend it", *more, *(["Praise it"] if "Praise" in str(request.messages) else []))

    server.answer = Agents(planner=planner)
    project, model = stack.project_make(repository), f"openai:loopback@{server.base_url}"
    stack.api.call(dict[str, Any], "PUT", f"/api/projects/{project.id}/models/", body={"model": model})
    made = stack.archon("plan", "new", project.id, "Make it work")
    plan = stack.archon("plan", "list", "--project", project.id, "--json").document["plans"][0]["id"]
    # What a plan is worth no check says: made is made.
    assert made.code == 0 and "T1 Mend it" in made.output and f"plan approve {plan[:8]}" in made.output, made.errors
    as_document = stack.archon("plan", "new", project.id, "Make it work", "--json")
    assert as_document.code == 0 and as_document.document["plan"] != plan

    revised = stack.archon("plan", "revise", plan, "Say it in the docs", "--model", model, "--json").document
    stack.session_wait(revised["session_id"], "completed")
    assert "+ task T2 Document it" in stack.archon("plan", "diff", plan).output
    assert stack.archon("plan", "reject", plan, "--version", "1", "--comment", "Praise it").code == 2, "not seen"
    again = stack.archon("plan", "reject", plan, "--version", "2", "--comment", "Praise it", "--json")
    assert again.code == 0, again.errors
    stack.session_wait(again.document["session_id"], "completed")
    history = stack.archon("plan", "history", plan)
    assert "version 3" in history.output and "Praise it" in history.output
    refused = stack.archon("plan", "reject", plan, "--version", "3", "--json")
    assert (refused.code, refused.document["status"]) == (0, "rejected")
    late = stack.archon("plan", "approve", plan, "--version", "3")
    assert late.code == 2 and "have it revised" in late.errors
