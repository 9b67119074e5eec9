"""Work whose every effect can be counted by somebody outside of the product.

A session plans two tasks; each appends to one file by a command, twice, and to another by an edit. Lines are unique, so
a line that is there twice was written twice. The model server counts what it was asked, git what was committed.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fleet import Fleet
from tests.loopback.agents import call, finishes, is_planner, plans, says, task_title
from tests.loopback.wire import Reply, Request, ToolCall, text_of

FILES = {"notes.txt": "end\n", "README": "Notes.\n"}
CHECK = "test -s notes.txt"
UNKNOWN = "the outcome is unknown"
PARTS = ("First", "Second")
#: Lines that each task leaves, by file.
_LOGGED, _NOTED = ("a", "b"), ("note",)
#: What the server was asked: role and title of the task, and how many messages there were.
Asked = tuple[str, str, int]


def goal_of(number: int) -> str:
    return f"Take the notes of job {number}."


def title_of(part: str, number: int) -> str:
    return f"{part} note of job {number}"


class CountedModel:
    """What the model says, and what it was asked for each job."""

    def __init__(self) -> None:
        self.asked: dict[int, Counter[Asked]] = {}
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        planner = is_planner(request)
        found = re.search(r"job (\d+)", request.user if planner else task_title(request))
        assert found is not None, request.user[:500]
        number = int(found[1])
        role, title = ("planner", "") if planner else ("coder", task_title(request))
        with self._lock:
            self.asked.setdefault(number, Counter())[(role, title, len(request.messages))] += 1
        return self._plan(request, number) if planner else self._code(request, title)

    def _plan(self, request: Request, number: int) -> Reply:
        if not request.results("list_files"):
            return says(call("list_files"))
        return plans(*(title_of(part, number) for part in PARTS))

    def _code(self, request: Request, title: str) -> Reply:
        slug = title.replace(" ", "-")
        steps = [
            (f"{slug}-a", "log.txt", call("run_command", command=f"echo {slug}-a >> log.txt; sleep 0.2")),
            (
                f"{slug}-note",
                "notes.txt",
                call("edit_file", path="notes.txt", old_text="end\n", new_text=f"{slug}-note\nend\n"),
            ),
            (f"{slug}-b", "log.txt", call("run_command", command=f"sleep 0.2; echo {slug}-b >> log.txt")),
        ]
        for line, path, proposed in steps:
            reply = _next(request, line, path, proposed)
            if reply is not None:
                return reply
        return finishes(f"{title} is taken.")


def _next(request: Request, line: str, path: str, proposed: ToolCall) -> Reply | None:
    """The call, or a look at the file where nobody knows what came of it; None once the line is there."""
    told = list(_told(request))
    made = [at for at, (asked, _) in enumerate(told) if line in json.dumps(asked["arguments"])]
    if not made:
        return says(proposed)
    _, said = told[made[-1]]
    if UNKNOWN not in said:
        return None
    looks = [said for asked, said in told[made[-1] :] if asked["name"] == "read_file" and path in asked["arguments"]]
    if not looks:
        return says(call("read_file", path=path), text="What came of it?")
    return None if line in looks[-1] else says(proposed)


def _told(request: Request) -> list[tuple[dict[str, Any], str]]:
    """Every call and what came of it, in order."""
    calls = {asked["id"]: asked["function"] for m in request.messages for asked in m.get("tool_calls") or ()}
    return [(calls[m["tool_call_id"]], text_of(m)) for m in request.messages if m["role"] == "tool"]


@dataclass
class Counts:
    """What the witnesses found. ``notes`` says what, for people."""

    effects_lost: int = 0
    effects_doubled: int = 0
    events_missing: int = 0
    events_doubled: int = 0
    notes: list[str] = field(default_factory=list)

    def __iadd__(self, other: Counts) -> Counts:
        self.effects_lost += other.effects_lost
        self.effects_doubled += other.effects_doubled
        self.events_missing += other.events_missing
        self.events_doubled += other.events_doubled
        self.notes += other.notes
        return self

    @property
    def are_whole(self) -> bool:
        return not (self.effects_lost or self.effects_doubled or self.events_missing or self.events_doubled)

    def effects(self, what: str, found: Counter[Any], expected: Counter[Any]) -> None:
        lost, doubled = _differences(found, expected)
        self.effects_lost += sum(lost.values())
        self.effects_doubled += sum(doubled.values())
        self._note(what, lost, doubled)

    def events(self, what: str, found: Counter[Any], expected: Counter[Any]) -> None:
        missing, doubled = _differences(found, expected)
        self.events_missing += sum(missing.values())
        self.events_doubled += sum(doubled.values())
        self._note(what, missing, doubled)

    def _note(self, what: str, less: Counter[Any], more: Counter[Any]) -> None:
        if less:
            self.notes.append(f"{what}: missing {dict(less)}")
        if more:
            self.notes.append(f"{what}: too many {dict(more)}")


def _differences(found: Counter[Any], expected: Counter[Any]) -> tuple[Counter[Any], Counter[Any]]:
    return expected - found, found - expected


@dataclass(frozen=True)
class Job:
    """A session that does the counted work."""

    number: int
    session_id: str
    project_id: str
    merged: bool = False


def job_count(fleet: Fleet, job: Job, asked: Counter[Asked]) -> Counts:
    """Count all that a completed job has left, each thing by somebody else than who made it."""
    counts = Counts()
    [session] = fleet.rows("SELECT * FROM agents_agentsession WHERE id = %s", (job.session_id,))
    git_dir = fleet.git_dir(job.project_id)
    _files_count(counts, git_dir, session, job)
    _commits_count(counts, git_dir, session, job)
    _spending_count(counts, fleet, job, asked)
    _plan_count(counts, fleet, session, job)
    _events_count(counts, fleet, session, job, replies=len(asked))
    counts.notes = [f"job {job.number} ({job.session_id}): {note}" for note in counts.notes]
    return counts


def _files_count(counts: Counts, git_dir: Path, session: dict[str, Any], job: Job) -> None:
    for path, kinds in (("log.txt", _LOGGED), ("notes.txt", _NOTED)):
        slugs = [title_of(part, job.number).replace(" ", "-") for part in PARTS]
        expected = Counter(f"{slug}-{kind}" for slug in slugs for kind in kinds)
        found = Counter(line for line in git(git_dir, "show", f"{session['branch']}:{path}").split() if line != "end")
        counts.effects(path, found, expected)


def _commits_count(counts: Counts, git_dir: Path, session: dict[str, Any], job: Job) -> None:
    expected = Counter(title_of(part, job.number) for part in PARTS)
    span = f"{session['base_commit']}..refs/heads/{session['branch']}"
    counts.effects("commits", Counter(git(git_dir, "log", "--format=%s", span).splitlines()), expected)
    # Those on no branch as well: a replay makes the same commit, never another one.
    objects = git(git_dir, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)").splitlines()
    made = [line.split()[1] for line in objects if line.startswith("commit ")]
    messages = git(git_dir, "log", "--no-walk", "--format=%s%x00%b%x01", *made).split("\x01")
    of_ours = Counter(m.strip().partition("\0")[0] for m in messages if f"Archon-Session: {job.session_id}" in m)
    counts.effects("commit objects", of_ours, expected)
    if job.merged:
        tip = git(git_dir, "rev-parse", f"refs/heads/{session['base_branch']}")
        merged = Counter(git(git_dir, "log", "--format=%s", f"{session['base_commit']}..{tip}").splitlines())
        counts.effects("merged commits", merged, expected)
        counts.effects("merge in the row", Counter([session["merged_commit"]]), Counter([tip]))


def _spending_count(counts: Counts, fleet: Fleet, job: Job, asked: Counter[Asked]) -> None:
    """Each request that the server got is in a row, and each reply was kept once."""
    executions = {
        str(row["id"]): (row["role"], row["title"] or "")
        for row in fleet.rows(
            "SELECT e.id, e.role, t.title FROM agents_agentexecution e LEFT JOIN planning_task t ON t.id = e.task_id"
            " WHERE e.session_id = %s",
            (job.session_id,),
        )
    }
    calls = fleet.rows("SELECT * FROM usage_modelcall WHERE scope_id = %s ORDER BY id", (job.session_id,))
    rows: Counter[Asked] = Counter()
    settled: Counter[Asked] = Counter()
    for call_ in calls:
        execution, _, position = call_["key"].partition(":")
        key = (*executions[execution], int(position))
        rows[key] += 1
        settled[key] += call_["state"] == "settled"
    # More rows than requests are fine: a process may die between the reservation and the request.
    counts.effects("requests with a row of spending", asked & rows, asked)
    counts.effects("replies kept", settled, Counter(dict.fromkeys(asked, 1)))
    [head] = fleet.rows("SELECT claims FROM agents_sessionhead WHERE session_id = %s", (job.session_id,))
    # A death interrupts one call at most; whatever else was asked again was asked for nothing.
    again = sum(asked.values()) - len(asked)
    counts.effects("asked again", Counter({"calls": max(0, again - (head["claims"] - 1))}), Counter())
    left = Counter(call_["key"] for call_ in calls if call_["state"] == "reserved")
    counts.effects("reservations that nobody settled", Counter(), left)
    if not counts.are_whole:
        counts.notes += [
            f"call {row['key'][-12:]} attempt {row['attempt']}: {row['state']}, {row['started_at']}"
            f" to {row['finished_at']} {row['error']}"
            for row in calls
        ] + [
            f"{row['created_at']}: {row['payload']}"
            for row in fleet.rows(
                "SELECT created_at, payload FROM agents_sessionevent WHERE session_id = %s AND type = 'SessionStarted'",
                (job.session_id,),
            )
        ]


def _plan_count(counts: Counts, fleet: Fleet, session: dict[str, Any], job: Job) -> None:
    tasks = fleet.rows(
        "SELECT t.title, t.status FROM planning_task t JOIN planning_feature f ON f.id = t.feature_id"
        " WHERE f.plan_id = %s",
        (session["plan_id"],),
    )
    expected = Counter((title_of(part, job.number), "done") for part in PARTS)
    counts.effects("tasks", Counter((task["title"], task["status"]) for task in tasks), expected)


def _events_count(counts: Counts, fleet: Fleet, session: dict[str, Any], job: Job, *, replies: int) -> None:
    events = fleet.rows(
        "SELECT seq, type, payload FROM agents_sessionevent WHERE session_id = %s ORDER BY seq", (job.session_id,)
    )
    [head] = fleet.rows("SELECT seq, claims FROM agents_sessionhead WHERE session_id = %s", (job.session_id,))
    counts.events("numbers", Counter(event["seq"] for event in events), Counter(range(1, head["seq"] + 1)))
    told = Counter(key for event in events if (key := _event_key(event)) is not None)
    expected: Counter[tuple[str, str]] = Counter()
    for row in fleet.rows("SELECT id FROM agents_toolcall WHERE session_id = %s", (job.session_id,)):
        expected[("ToolStarted", str(row["id"]))] = expected[("ToolFinished", str(row["id"]))] = 1
    for row in fleet.rows(
        "SELECT m.execution_id, m.position FROM agents_executionmessage m JOIN agents_agentexecution e"
        " ON e.id = m.execution_id WHERE e.session_id = %s AND m.message->>'type' = 'ai'",
        (job.session_id,),
    ):
        expected[("ModelReplied", f"{row['execution_id']}:{row['position']}")] = 1
    for task in fleet.rows(
        "SELECT t.id FROM planning_task t JOIN planning_feature f ON f.id = t.feature_id WHERE f.plan_id = %s",
        (session["plan_id"],),
    ):
        expected |= Counter({(kind, str(task["id"])): 1 for kind in ("TaskStarted", "TaskVerified", "TaskCommitted")})
    once = ["SessionCreated", "SessionQueued", "PlanCreated", "SessionReported", "SessionCompleted"]
    expected |= Counter({(kind, ""): 1 for kind in (*once, *(["SessionMerged"] if job.merged else []))})
    expected[("SessionStarted", "")] = head["claims"]
    counts.events("events", told, expected)
    # By the model server's own count, since a reply that was lost whole would be missed nowhere above.
    of_replies = Counter({"replies": sum(kind == "ModelReplied" for kind, _ in told)})
    counts.events("replies told", of_replies, Counter({"replies": replies}))


def _event_key(event: dict[str, Any]) -> tuple[str, str] | None:
    kind, payload = event["type"], event["payload"]
    if kind in ("ToolStarted", "ToolFinished"):
        return kind, payload["call"]
    if kind == "ModelReplied":
        return kind, f"{payload['execution']}:{payload['step']}"
    if kind in ("TaskStarted", "TaskVerified", "TaskCommitted"):
        return kind, payload["task"]
    counted = ("PlanCreated", "SessionReported", "SessionMerged", "SessionStarted", "SessionCreated", "SessionQueued")
    ends = ("SessionCompleted", "SessionFailed", "SessionCancelled", "SessionPaused")
    return (kind, "") if kind in (*counted, *ends) else None


def git(git_dir: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "--git-dir", str(git_dir), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest value that so much of them does not pass; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
