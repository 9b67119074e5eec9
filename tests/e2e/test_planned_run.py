"""A goal of several features on a real package: planned, approved, done side by side, repaired, replanned, told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import git
from tests.loopback.openai_server import OpenAIServer
from tests.loopback.planned_run import BLOCKED, FINDING, PLAN, REVISION, answer
from tests.loopback.planned_work import (
    AGE,
    CHANGES,
    CODEC,
    DONE,
    EXPORT,
    LOADS,
    LOADS_ANEW,
    SIGNED_BY,
    edits_in_order,
)
from tests.packages import ITSDANGEROUS
from tests.planned_runs import INSTRUCTIONS, PlannedRun, lanes_side_by_side, run_start, tasks_of
from tests.stacks import LiveStack

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]


@pytest.fixture(scope="module")
def planned(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> tuple[PlannedRun, OpenAIServer, Path]:
    """The run, from the goal to its end, with the one word of a person's that it needs."""
    repository = ITSDANGEROUS.released(tmp_path_factory.mktemp("planned"))
    with OpenAIServer(answer) as server:
        run = run_start(stack.api, stack.project_make(repository), base_url=server.base_url)
        waiting = stack.session_wait(run.session_id, "waiting_approval", seconds=300)
        assert run.told("TaskStarted") == [], "nothing is carried out before a person has said so"
        assert waiting.head_commit in (None, "", waiting.base_commit)
        run.approve()
        ended = stack.session_wait(run.session_id, seconds=900)
        assert (ended.status, ended.outcome) == ("completed", "verified"), stack.story(run.session_id)
        assert server.refused == []
    return run, server, repository


def test_the_plan_is_made_approved_and_revised_once(planned: tuple[PlannedRun, OpenAIServer, Path]) -> None:
    run, _, _ = planned
    assert len(run.told("PlanApprovalRequested")) == len(run.told("PlanApproved")) == 1
    assert [payload["reason"] for payload in run.told("PlanRevised")] == [REVISION["reason"]]
    plan = run.plan
    assert plan["version"] == 2, "what the person approved, and what the planner made of it"
    tasks = tasks_of(plan)
    assert set(tasks) == {*DONE, LOADS}
    assert {title for title, task in tasks.items() if task["status"] == "done"} == set(DONE)
    assert tasks[LOADS]["status"] == "skipped" and BLOCKED["reason"] in tasks[LOADS]["result"]
    assert tasks[CHANGES]["depends_on"] == ["hex-export", "age-serializer"], "what needed the one needs the other"
    assert [feature["key"] for feature in plan["features"]] == [feature["key"] for feature in PLAN["features"]]


def test_tasks_keep_their_order_and_independent_ones_run_side_by_side(
    planned: tuple[PlannedRun, OpenAIServer, Path],
) -> None:
    run, _, _ = planned
    events = run.events
    assert frozenset((CODEC, AGE)) in lanes_side_by_side(events)
    titles = {event.payload["task"]: event.payload["title"] for event in events if event.type == "TaskStarted"}
    started = [titles[event.payload["task"]] for event in events if event.type == "TaskStarted"]
    done = [titles[event.payload["task"]] for event in events if event.type == "TaskCommitted"]
    assert sorted(done) == sorted(DONE)
    for first, later in (
        (CODEC, EXPORT),
        (AGE, LOADS),
        (SIGNED_BY, LOADS_ANEW),
        (LOADS_ANEW, CHANGES),
        (EXPORT, CHANGES),
    ):
        assert started.index(first) < started.index(later)
        if first in done and later in done:
            assert done.index(first) < done.index(later)


def test_a_failing_check_and_a_finding_are_repaired(planned: tuple[PlannedRun, OpenAIServer, Path]) -> None:
    run, _, _ = planned
    events = run.events
    titles = {event.payload["task"]: event.payload["title"] for event in events if event.type == "TaskStarted"}
    refused = [titles[payload["task"]] for payload in run.told("TaskVerified") if not payload["passed"]]
    assert refused == [AGE], "its own tests fail once, and nothing else does"
    found = [payload for payload in run.told("ReviewFinished") if payload["verdict"] == "findings"]
    assert [titles[payload["task"]] for payload in found] == [CODEC]
    assert [(each["path"], each["comment"]) for each in found[0]["findings"]] == [
        ("src/itsdangerous/encoding.py", FINDING)
    ]
    tasks = tasks_of(run.plan)
    assert [each["resolved"] for each in tasks[CODEC]["findings"]] == [True]
    assert {title: tasks[title]["attempts"] for title in DONE} == dict.fromkeys(DONE, 1) | {CODEC: 2, AGE: 2}
    for title in DONE:
        assert all(check["passed"] for check in tasks[title]["check_results"]) and tasks[title]["check_results"]


def test_the_branch_holds_all_of_it_and_the_report_tells_it(
    planned: tuple[PlannedRun, OpenAIServer, Path], stack: LiveStack, tmp_path: Path
) -> None:
    run, _, repository = planned
    session = run.session
    [check] = session.checks
    assert (check.before, check.after) == ("passed", "passed")
    assert (check.tests_after or 0) >= (check.tests_before or 0) + 13 and not check.newly_failing
    expected: dict[str, str] = {}
    for edit in edits_in_order():
        text = expected.get(edit.path) or ((repository / edit.path).read_text() if edit.old else "")
        expected[edit.path] = text.replace(edit.old, edit.new) if edit.old else edit.new
    diff = stack.api.session_diff(run.session_id)
    assert {file.path for file in diff.files} == set(expected)
    bundle = tmp_path / "branch.bundle"
    stack.api.bundle_download(run.session_id, target=bundle)
    git(repository, "fetch", "--quiet", str(bundle), f"{session.branch}:{session.branch}")
    for path, text in expected.items():
        assert git(repository, "show", f"{session.branch}:{path}") == text.strip(), path
    subjects = git(repository, "log", "--format=%s", f"{session.base_commit}..{session.branch}").splitlines()
    assert sorted(subjects) == sorted(DONE), "one commit for each task, in one line"
    assert "merge" not in git(repository, "log", "--format=%P|%s", session.branch).lower()
    report = session.report
    for title in (*DONE, LOADS):
        assert title in report
    tasks = tasks_of(run.plan)
    for title in DONE:
        assert tasks[title]["commit"][:7] in report, f"the commit of {title}"
    assert REVISION["reason"] in report and "verified" in report and "tokens" in report


def test_every_agent_was_told_the_same_and_each_role_begins_the_same(
    planned: tuple[PlannedRun, OpenAIServer, Path],
) -> None:
    run, server, _ = planned
    heads: dict[str, set[str]] = {}
    for request in server.requests:
        role = request.system.removeprefix("You are Archon's ").partition(".")[0]
        heads.setdefault(role, set()).add(f"{request.system}{request.body['tools']}")
        assert request.user.index(INSTRUCTIONS) < 900
    assert {role: len(sent) for role, sent in heads.items()} == dict.fromkeys(
        ("planner", "coder", "reviewer", "replanner"), 1
    )
    usage = run.session.usage
    assert {line.role for line in usage.by_role} == set(heads)
    assert usage.cached_tokens == server.tokens.cached == sum(line.cached_tokens for line in usage.by_role)
    assert (usage.input_tokens, usage.output_tokens) == (server.tokens.read, server.tokens.written)
