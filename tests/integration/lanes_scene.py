"""Sessions whose tasks are worked on side by side: their plan, what their agents do, and what has to be left of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connections

from apps.agents.models import AgentSession, SessionEffect, ToolCall
from apps.agents.types import ToolCallStatus
from apps.planning.models import Task
from apps.projects.git import git_run
from apps.projects.repository import repository_path
from apps.projects.worktree import worktree_path
from apps.projects.worktree_lanes import lanes_list
from apps.usage.models import Budget, ModelCall
from tests.integration.session_scene import entry, events_of

DONE = ("finish", {"summary": "done"})
UNKNOWN = {"last_result": "the outcome is unknown"}
CONFLICT = "can't be merged"
NUMBERS = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
FILES = {"numbers.txt": NUMBERS, "README": "Numbers.\n"}
CHECK = "test -s numbers.txt"
#: What is between the marks of a conflict stays, of both.
MEND = ("run_command", {"command": "sed -i '/^<<<<<<< /d;/^=======$/d;/^>>>>>>> /d' numbers.txt; echo mended"})


def held(until: str, then: str = "true") -> tuple[str, dict[str, Any]]:
    """The call of a command that is under way until it is let go by this name (`letting_go`)."""
    return "run_command", {"command": f"until test -e {until}; do sleep 0.1; done; rm {until}; {then}"}


@contextmanager
def letting_go(session: AgentSession, **when: Callable[[], object]) -> Iterator[None]:
    """While this lasts, commands that are held by a name go on once what stands for it is true, in every lane."""
    ended = threading.Event()

    def watch() -> None:
        waited = dict(when)
        try:
            while waited and not ended.wait(0.1):
                for name in [name for name, so in waited.items() if so()]:
                    del waited[name]
                    for lane in lanes_list(session_id=session.id):
                        (worktree_path(session_id=session.id, name=lane) / name).touch()
        finally:
            connections.close_all()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def under_way(session: AgentSession) -> int:
    """How many commands are."""
    return ToolCall.objects.filter(session=session, name="run_command", status="open").count()


def plan_beside(*titles: str, then: str = "") -> tuple[str, dict[str, Any]]:
    """The call that hands over a plan of tasks that don't need each other, and perhaps one that needs them all."""
    tasks: list[dict[str, Any]] = [
        {"key": f"T{number}", "title": title, "depends_on": []} for number, title in enumerate(titles, 1)
    ]
    if then:
        tasks.append({"key": "last", "title": then, "depends_on": [task["key"] for task in tasks]})
    return "submit_plan", {"summary": "the plan", "features": [{"title": "all", "tasks": tasks}]}


def writes(title: str, path: str, content: str, **when: Any) -> list[dict[str, Any]]:
    """A coder that writes a file and is done, again where nobody knows what came of it."""
    of = {"task": f"^Task: {title}", **when}
    write = ("write_file", {"path": path, "content": content})
    return [
        entry("coder", write, **of, **UNKNOWN),
        entry("coder", DONE, **of, last_tool="write_file"),
        entry("coder", write, **of),
    ]


def two(*, then: str = "") -> list[dict[str, Any]]:
    """A plan of two tasks, each of which writes a file of its own."""
    planned = entry("planner", plan_beside("Write a", "Write b", then=then))
    return [planned, *writes("Write a", "a.txt", "a\n"), *writes("Write b", "b.txt", "b\n")]


def conflicting() -> list[dict[str, Any]]:
    """Two tasks that change the same line; whoever comes second mends it when it hears of it."""
    entries = [entry("planner", plan_beside("First", "Second"))]
    for title, word in (("First", "erste"), ("Second", "zweite")):
        of = {"task": f"^Task: {title}"}
        # Again it changes nothing.
        edit = ("run_command", {"command": f"sed -i 's/^four$/four {word}/' numbers.txt"})
        entries += [
            entry("coder", DONE, **of, user=CONFLICT, last_result="mended"),
            entry("coder", MEND, **of, user=CONFLICT),
            entry("coder", edit, **of, **UNKNOWN),
            entry("coder", DONE, **of, last_tool="run_command"),
            entry("coder", edit, **of),
        ]
    return entries


def git_dir_of(session: AgentSession) -> Any:
    return repository_path(project_id=session.project_id)


def tip_of(session: AgentSession) -> str:
    return git_run("rev-parse", f"refs/heads/{session.branch}", git_dir=git_dir_of(session)).text


def subjects_of(session: AgentSession) -> list[str]:
    """The commits of the session's branch, the oldest first, which are in one line."""
    span = f"{session.base_commit}..refs/heads/{session.branch}"
    listing = git_run("log", "--reverse", "--format=%p\t%s", span, git_dir=git_dir_of(session)).text
    rows = [line.partition("\t") for line in listing.splitlines()]
    assert all(" " not in parents for parents, _, _ in rows), rows
    return [subject for _, _, subject in rows]


def content_of(session: AgentSession, path: str) -> str:
    """A file on the session's branch."""
    blob = f"refs/heads/{session.branch}:{path}"
    return git_run("cat-file", "blob", blob, git_dir=git_dir_of(session)).stdout.decode()


def refs_of(session: AgentSession) -> set[str]:
    """Every ref that has the session's id in its name."""
    listing = git_run("for-each-ref", "--format=%(refname)", git_dir=git_dir_of(session)).text
    return {name for name in listing.splitlines() if str(session.id) in name}


def whole_require(session: AgentSession, files: Mapping[str, str], *titles: str, outcome: str = "verified") -> None:
    """It ended well: each task has one commit, nothing happened twice, and nothing of the lanes lies about."""
    assert (session.status, session.outcome) == ("completed", outcome), (session.reason, session.report)
    assert sorted(subjects_of(session)) == sorted(titles)
    assert {path: content_of(session, path) for path in files} == files
    assert tip_of(session) == session.head_commit
    tasks = Task.objects.filter(feature__plan=session.plan)
    assert set(tasks.values_list("status", flat=True)) == {"done"}
    events = events_of(session.id)
    assert [event.seq for event in events] == list(range(1, session.head.seq + 1))
    # What rewinds have taken back is past.
    for rewound in [event for event in events if event.type == "SessionRewound"]:
        events = [event for event in events if not rewound.payload["to_seq"] < event.seq < rewound.seq]
    told = Counter((event.type, event.payload.get("task")) for event in events)
    for task in tasks:
        for kind in ("TaskCommitted", "TaskMerged"):
            assert told[(kind, str(task.id))] <= 1, (kind, task.title)
        assert told[("TaskCommitted", str(task.id))] == 1
        started = [e.payload for e in events if e.type == "TaskStarted" and e.payload["task"] == str(task.id)]
        attempts = [payload["attempt"] for payload in started]
        assert attempts == list(range(1, task.attempts + 1))
    begun = Counter(event.payload["call"] for event in events if event.type == "ToolStarted")
    ended = Counter(event.payload["call"] for event in events if event.type == "ToolFinished")
    assert begun == ended and set(begun.values()) <= {1}
    assert not ToolCall.objects.filter(session=session).exclude(status=ToolCallStatus.FINISHED).exists()
    assert lanes_list(session_id=session.id) == ()
    assert not [name for name in refs_of(session) if name.startswith(f"refs/heads/{session.branch}.")]
    budget = Budget.objects.get(scope_id=session.id)
    assert (budget.reserved_steps, budget.reserved_tokens) == (0, 0)
    assert not ModelCall.objects.filter(budget_id=session.id, state="reserved").exists()


def effects_of(session: AgentSession, prefix: str) -> list[SessionEffect]:
    return list(SessionEffect.objects.filter(session=session, key__startswith=prefix, retired=None).order_by("seq"))
