"""Sessions that carry out the plan of ``tests.loopback.planned_run``, and what they come to, whoever ran them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.client import Api
from cli.resources import Event, Project, Session
from tests.builders import git
from tests.loopback.planned_run import GOAL

#: What every agent of the run is told by its project.
INSTRUCTIONS = "Docstrings begin with a verb in the third person."
#: Members of a plan that differ from run to run: ids, times, commits, and how long something took.
_OWN = {
    "id", "project", "plan", "feature", "parent", "session_id", "created_by", "created_at", "updated_at", "commit",
    "estimate", "seconds", "output", "execution",
}  # fmt: skip


@dataclass(frozen=True)
class PlannedRun:
    """A session of the run, by the API alone."""

    api: Api
    session_id: str

    @property
    def session(self) -> Session:
        return self.api.session_get(self.session_id)

    @property
    def events(self) -> list[Event]:
        events: list[Event] = []
        while page := self.api.event_page(self.session_id, after=len(events)).events:
            events += page
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return events

    def told(self, kind: str) -> list[dict[str, Any]]:
        """What the events of this type say."""
        return [event.payload for event in self.events if event.type == kind]

    @property
    def plan(self) -> dict[str, Any]:
        plan_id = self.told("PlanCreated")[-1]["plan"]
        document: dict[str, Any] = self.api._request("GET", f"/api/planning/plans/{plan_id}/").json()
        return document

    def approve(self) -> None:
        """Have the plan carried out as it is, by agents that may change files and run commands by themselves."""
        plan = self.plan
        body = {"version": plan["version"], "autonomy": "auto"}
        self.api._request("POST", f"/api/planning/plans/{plan['id']}/approve/", json=body)

    def outcome(self, git_dir: Path) -> dict[str, Any]:
        """All that the run has come to, but for what no two runs share."""
        session = self.session
        return {
            "status": (session.status, session.outcome),
            "tree": git(git_dir, "rev-parse", f"{session.head_commit}^{{tree}}"),
            "commits": sorted(
                git(git_dir, "log", "--format=%s", f"{session.base_commit}..{session.head_commit}").splitlines()
            ),
            "plan": _shared(self.plan),
            "checks": [_shared(check.model_dump()) for check in session.checks],
            "report": report_shared(session.report),
        }


def run_start(api: Api, project: Project, *, base_url: str) -> PlannedRun:
    """Have the goal planned; the plan waits for leave then."""
    api.project_update(project.id, {"instructions": INSTRUCTIONS})
    options = {
        "model": "openai:loopback", "base_url": base_url, "autonomy": "ask", "lanes": 2, "review": "auto",
        "agent_type": "executor",
        "limits": {"steps": 400, "seconds": 3600},
    }  # fmt: skip
    return PlannedRun(api, api.session_run(project_id=project.id, goal=GOAL, options=options).id)


def tasks_of(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tasks of a plan by their titles."""
    return {task["title"]: task for feature in plan["features"] for task in feature["tasks"]}


def report_shared(report: str) -> str:
    """A report without ids of commits, models' costs and times."""
    text = re.sub(r"\b(?=\w*\d)[0-9a-f]{7,40}\b", "COMMIT", report)
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)? ?(s|ms|min)\b", "TIME", text)
    # A reply that was lost with its worker is paid for by estimate, and asked for again.
    return re.sub(r"^Models: .*$", "Models: COST", text, flags=re.MULTILINE)


def lanes_side_by_side(events: Sequence[Event]) -> set[frozenset[str]]:
    """Pairs of tasks that were both under way at one time, by title."""
    titles: dict[str, str] = {}
    running: set[str] = set()
    pairs: set[frozenset[str]] = set()
    for event in events:
        task = str(event.payload.get("task", ""))
        if event.type == "TaskStarted":
            titles[task] = event.payload["title"]
            running.add(task)
            pairs |= {frozenset((titles[task], titles[other])) for other in running if other != task}
        elif event.type in ("TaskCommitted", "TaskFailed", "TaskBlocked"):
            running.discard(task)
    return pairs


def branch_tests_pass(git_dir: Path, commit: str, folder: Path, python: Path) -> str:
    """Run the package's own tests on a clean checkout of the commit; what they say when they fail, else nothing."""
    git(git_dir, "worktree", "add", "--detach", str(folder), commit)
    try:
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        variables = {"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin"}
        ran = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        return "" if ran.returncode == 0 else ran.stdout[-4000:] + ran.stderr[-2000:]
    finally:
        git(git_dir, "worktree", "remove", "--force", str(folder))


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shared(item) for name, item in value.items() if name not in _OWN}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    return value
