"""Sessions whose tasks write a file each, or fail, and whose plan is looked at again: cheap enough for many of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.agents.models import AgentSession
from apps.authentication.models import User
from apps.planning.models import Plan, PlanVersion, Task
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.repository import repository_path
from tests.integration.session_scene import entry, events_of, project_make

#: What every session here is checked by: a task fails by leaving a file of that name.
FILES = {
    "README.md": "a project\n",
    "test_it.py": (
        "import pathlib\nimport unittest\n\n\nclass ItTest(unittest.TestCase):\n"
        "    def test_it(self):\n        self.assertFalse(pathlib.Path('broken').exists())\n"
    ),
}
AGAIN = "doesn't stand yet"


def scene_make(folder: Path) -> tuple[User, Project]:
    return project_make(folder, FILES)


def task_of(title: str, **more: Any) -> dict[str, Any]:
    return {"title": title, **more}


def planned(*tasks: Mapping[str, Any], title: str = "all", key: str = "F1") -> dict[str, Any]:
    """The planner's answer: these tasks, in one feature."""
    plan = {"summary": "the plan", "features": [{"title": title, "key": key, "tasks": list(tasks)}]}
    return entry("planner", ("submit_plan", plan))


def works(title: str, *, asks: bool = False) -> list[dict[str, Any]]:
    """A coder that does the task: it writes its file, and is done.

    ``asks``: it asks something first, which is a moment for a person to say something else.
    """
    when = {"task": f"^Task: {re.escape(title)}$"}
    made = ("write_file", {"path": f"{title.lower()}.txt", "content": "made\n"})
    done = entry("coder", ("finish", {"summary": f"{title} is done"}), **when, last_tool="write_file")
    if not asks:
        return [done, entry("coder", made, **when)]
    question = entry("coder", ("ask_user", {"question": "Which one?"}), **when)
    return [done, entry("coder", made, **when, seen=["^ask_user "]), question]


def fails(title: str) -> list[dict[str, Any]]:
    """A coder that never gets it right."""
    when = {"task": f"^Task: {re.escape(title)}$"}
    return [
        entry("coder", ("finish", {"summary": f"{title} again"}), **when, user=AGAIN),
        entry("coder", ("finish", {"summary": f"{title} is done"}), **when, last_tool="write_file"),
        entry("coder", ("write_file", {"path": "broken", "content": "no\n"}), **when),
    ]


def blocked(title: str, *, reason: str = "the parser is missing", needs: str = "a parser") -> list[dict[str, Any]]:
    """A coder that begins, and finds that it can't go on."""
    when = {"task": f"^Task: {re.escape(title)}$"}
    return [
        entry(
            "coder",
            ("report_blocked", {"reason": reason, "needs": needs}),
            **when,
            last_tool="write_file",
        ),
        entry("coder", ("write_file", {"path": "half.txt", "content": "half\n"}), **when),
    ]


def revises(
    *features: Mapping[str, Any], drop: Sequence[str] = (), reason: str = "it failed", **when: Any
) -> dict[str, Any]:
    """A planner that revises the plan so."""
    return entry("replanner", ("revise_plan", {"reason": reason, "features": features, "drop": drop}), **when)


def keeps(reason: str = "it serves", **when: Any) -> dict[str, Any]:
    return entry("replanner", ("keep_plan", {"reason": reason}), **when)


def statuses(session: AgentSession) -> dict[str, str]:
    """Where the tasks of the session's plan are, by key."""
    return dict(Task.objects.filter(feature__plan=session.plan_id).values_list("key", "status"))


def versions(session: AgentSession) -> list[tuple[int, str]]:
    return list(PlanVersion.objects.filter(plan=session.plan_id).order_by("number").values_list("number", "source"))


def plan_row(session: AgentSession) -> Plan:
    assert session.plan_id is not None
    return Plan.objects.get(id=session.plan_id)


def files_of(session: AgentSession) -> set[str]:
    """The files that the tip of the session's branch has besides those of its start."""
    git_dir = repository_path(project_id=session.project_id)
    return set(git_run("ls-tree", "-r", "--name-only", session.branch, git_dir=git_dir).text.split()) - set(FILES)


def looks(session: AgentSession) -> list[tuple[str, Any]]:
    """What came of each look at the plan: the event, and its version or what gave cause for it."""
    return [
        (event.type, event.payload.get("version") or event.payload.get("trigger"))
        for event in events_of(session.id, "PlanRevised", "PlanKept")
    ]
