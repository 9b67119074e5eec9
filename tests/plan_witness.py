"""What has to hold once a plan was carried out, read from rows, events and git by somebody who had no part in it."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from apps.planning.document import PlanDoc, task_id_of
from apps.planning.scheduling import tasks_ready
from apps.planning.types import TaskState, TaskStatus
from integrations.embedded.reach import runtime_root
from tests.counted import git
from tests.fleet import Fleet
from tests.loopback.plan_players import BROKEN, SHARED, is_shared, own_line, shared_line, slug_of, word_line, word_said
from tests.processes import wait_until

_LEFT_SECONDS = 20.0


@dataclass
class Witness:
    """Looks at a session that has ended; ``wrong`` is what doesn't hold, in words."""

    fleet: Fleet
    session_id: str
    acknowledged: Sequence[int] = ()
    wrong: list[str] = field(default_factory=list)

    def look(self) -> list[str]:
        if (self.session["status"], bool(self.session["plan_id"])) != ("completed", True):
            return [f"it ended as {self.session['status']}: {self.session['reason']}"]
        for part in (
            self._numbers,
            self._versions,
            self._tasks,
            self._order,
            self._branch,
            self._content,
            self._spending,
            self._calls,
            self._leftovers,
        ):
            part()
        return self.wrong

    def _require(self, holds: object, words: str) -> None:
        if not holds:
            self.wrong.append(words)

    # --- What there is ------------------------------------------------------------------------------------------------
    def _rows(self, query: str) -> list[dict[str, Any]]:
        return self.fleet.rows(query, (self.session_id,))

    @cached_property
    def session(self) -> dict[str, Any]:
        [row] = self._rows(
            "SELECT s.*, h.seq AS last, h.owner, h.lease_expires_at, h.wanted FROM agents_agentsession s"
            " JOIN agents_sessionhead h ON h.session_id = s.id WHERE s.id = %s"
        )
        return row

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return self._rows("SELECT seq, type, payload FROM agents_sessionevent WHERE session_id = %s ORDER BY seq")

    @cached_property
    def live(self) -> list[dict[str, Any]]:
        """Without what rewinds took back."""
        live: list[dict[str, Any]] = []
        for event in self.events:
            if event["type"] == "SessionRewound":
                live = [each for each in live if each["seq"] <= event["payload"]["to_seq"]]
            live.append(event)
        return live

    @cached_property
    def tasks(self) -> dict[str, dict[str, Any]]:
        rows = self.fleet.rows(
            "SELECT t.*, t.id::text AS id FROM planning_task t JOIN planning_feature f ON f.id = t.feature_id"
            " WHERE f.plan_id = %s ORDER BY f.position, t.position",
            (self.session["plan_id"],),
        )
        return {row["key"]: row for row in rows}

    @property
    def _own(self) -> dict[str, dict[str, Any]]:
        """Without follow-ups: words that came when nobody was left to hear them, and that nobody has to change for."""
        return {key: row for key, row in self.tasks.items() if not key.startswith("follow-up")}

    @cached_property
    def versions(self) -> list[dict[str, Any]]:
        return self.fleet.rows(
            "SELECT * FROM planning_planversion WHERE plan_id = %s ORDER BY number", (self.session["plan_id"],)
        )

    @cached_property
    def document(self) -> PlanDoc:
        return PlanDoc.read(self.versions[-1]["document"])

    @cached_property
    def git_dir(self) -> Path:
        return self.fleet.git_dir(str(self.session["project_id"]))

    def _firsts(self, kind: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for event in self.live:
            if event["type"] == kind:
                found.setdefault(event["payload"]["task"], event["seq"])
        return found

    # --- What has to hold ---------------------------------------------------------------------------------------------
    def _numbers(self) -> None:
        found = [event["seq"] for event in self.events]
        self._require(found == list(range(1, self.session["last"] + 1)), f"events have numbers {found}")

    def _versions(self) -> None:
        numbers = [version["number"] for version in self.versions]
        [plan] = self.fleet.rows("SELECT * FROM planning_plan WHERE id = %s", (self.session["plan_id"],))
        self._require(
            numbers == list(range(1, plan["version"] + 1)), f"versions {numbers}, the plan's {plan['version']}"
        )
        people = {version["number"] for version in self.versions if version["source"] == "person"}
        lost = set(self.acknowledged) - people
        self._require(not lost, f"versions {sorted(lost)} were answered for, and are no person's")
        rows = {key: (row["title"], row["instructions"], tuple(row["depends_on"])) for key, row in self.tasks.items()}
        said = {key: (task.title, task.instructions, task.depends_on) for key, task in self.document.tasks.items()}
        self._require(list(rows.items()) == list(said.items()), f"rows say {rows}, the plan {said}")
        over = all(row["status"] in ("done", "skipped") for row in self.tasks.values())
        self._require(plan["status"] == ("done" if over else "failed"), f"the plan is {plan['status']}")
        if over:
            self._require(self.session["outcome"] == "verified", f"outcome {self.session['outcome']}")

    def _tasks(self) -> None:
        states = {
            key: TaskState(status=TaskStatus(row["status"]), attempts=row["attempts"])
            for key, row in self.tasks.items()
            if row["status"] not in ("pending", "blocked", "skipped")
        }
        ready = tasks_ready(self.document, states)
        self._require(not ready, f"{ready} could have started")
        running = [key for key, row in self.tasks.items() if row["status"] == "running"]
        self._require(not running, f"{running} still run")
        accepted = {
            row["key"].removeprefix("accept:"): row["result"]["commit"]
            for row in self._rows(
                "SELECT key, result FROM agents_sessioneffect WHERE session_id = %s AND retired IS NULL"
                " AND key LIKE 'accept:%%'"
            )
        }
        done = {row["id"]: row["commit"] for row in self.tasks.values() if row["status"] == "done"}
        self._require(done == accepted, f"done are {done}, accepted {accepted}")
        told = Counter(event["payload"]["task"] for event in self.live if event["type"] == "TaskCommitted")
        self._require(told == Counter(dict.fromkeys(done, 1)), f"events tell of {told}, done are {done}")
        attempts: dict[str, list[int]] = {}
        ends: Counter[str] = Counter()
        for event in self.live:
            if event["type"] == "TaskStarted":
                attempts.setdefault(event["payload"]["task"], []).append(event["payload"]["attempt"])
            elif event["type"] in ("TaskCommitted", "TaskFailed", "TaskBlocked"):
                ends[event["payload"]["task"]] += 1
        odd = {task: found for task, found in attempts.items() if found != list(range(1, len(found) + 1))}
        self._require(not odd, f"attempts {odd}")
        self._require(ends == Counter(dict.fromkeys(attempts, 1)), f"begun {set(attempts)}, ended {ends}")

    def _order(self) -> None:
        """Each task began after all that it needs was accepted, or was done without in the plan as it was then."""
        begun, accepted = self._firsts("TaskStarted"), self._firsts("TaskCommitted")
        plan_id = self.session["plan_id"]
        for key, row in self.tasks.items():
            at = begun.get(row["id"])
            self._require((at is not None) == bool(row["attempts"]), f"{key}: {row['attempts']} attempts, begun {at}")
            if at is None:
                continue
            then = [version for version in self.versions if version["seq"] is not None and version["seq"] <= at]
            document = PlanDoc.read(then[-1]["document"])
            if key not in document.tasks:
                self.wrong.append(f"{key} began at {at}, when version {then[-1]['number']} had no such task")
                continue
            self._require(not document.tasks[key].skipped, f"{key} began although it was done without")
            for needed in document.needs[key]:
                before = accepted.get(str(task_id_of(plan_id, needed)), at) < at
                self._require(document.tasks[needed].skipped or before, f"{key} began before {needed} was done")

    def _branch(self) -> None:
        tip = f"refs/heads/{self.session['branch']}"
        commits = git(self.git_dir, "log", "--format=%H", f"{self.session['base_commit']}..{tip}").split()
        merges = git(self.git_dir, "log", "--merges", "--format=%H", f"{self.session['base_commit']}..{tip}").split()
        done = {row["commit"]: key for key, row in self.tasks.items() if row["status"] == "done"}
        # The last commit of a task that was given up stays at the tip, for people to look at.
        failed = {row["commit"]: key for key, row in self.tasks.items() if row["status"] == "failed" and row["commit"]}
        extra = [commit for commit in commits if commit not in done]
        lost = {key for commit, key in done.items() if commit not in commits}
        self._require(not lost, f"{lost} are done and not on the branch")
        own = [row["commit"] for row in self._own.values() if row["status"] == "done"]
        self._require(len(set(own)) == len(own), "two have one commit")
        self._require(not merges, f"merges {merges}")
        self._require(extra in ([], commits[:1]) and set(extra) <= set(failed), f"commits that are no task's: {extra}")
        self._require(not extra or not self._lanes, f"the commit of a failed task {extra} is on the branch of lanes")

    @property
    def _lanes(self) -> bool:
        """Whether the last task that began did so beside others."""
        begun = self._rows(
            "SELECT result FROM agents_sessioneffect WHERE session_id = %s AND retired IS NULL"
            " AND key LIKE 'begin:%%' ORDER BY seq, id"
        )
        return bool(begun and begun[-1]["result"].get("lane"))

    def _content(self) -> None:
        """On the last commit that a task was accepted with: each line once, of those that are done, and of no other."""
        accepted = self.live_accepted
        commit = accepted[-1] if accepted else self.session["base_commit"]
        names = git(self.git_dir, "ls-tree", "--name-only", commit).splitlines()
        files = {name: git(self.git_dir, "show", f"{commit}:{name}").splitlines() for name in names}
        self._require(BROKEN not in files, "what a failed task left is there")
        started = {
            event["payload"]["task"]: event["payload"]["title"] for event in self.live if event["type"] == "TaskStarted"
        }
        slugs = {slug_of(started[row["id"]]): key for key, row in self._own.items() if row["status"] == "done"}
        self._require(
            set(files) == {SHARED, "README", *(f"{slug}.txt" for slug in slugs)}, f"files {names}, done {slugs}"
        )
        for slug, key in slugs.items():
            lines = Counter(files.get(f"{slug}.txt", []))
            word = word_said(self.tasks[key]["instructions"])
            wanted = [own_line(slug), *([word_line(slug, word)] if word else [])]
            self._require(all(lines[line] == 1 for line in wanted), f"{key} left {lines}, and should {wanted}")
            self._require(set(lines.values()) <= {1}, f"{key} left something twice: {lines}")
        there = Counter(line for line in files[SHARED] if line not in ("first", "middle", "last"))
        expected = Counter(shared_line(slug) for slug in slugs if is_shared(slug))
        self._require(there == expected, f"{SHARED} has {there}, and should have {expected}")

    @property
    def live_accepted(self) -> list[str]:
        return [event["payload"]["commit"] for event in self.live if event["type"] == "TaskCommitted"]

    def _spending(self) -> None:
        calls = self._rows("SELECT key, state FROM usage_modelcall WHERE scope_id = %s")
        held = [call["key"] for call in calls if call["state"] == "reserved"]
        self._require(not held, f"reservations that nobody settled: {held}")
        kept = Counter(
            f"{row['origin']}:{row['position']}"
            for row in self._rows(
                "SELECT coalesce(e.origin, e.id)::text AS origin, m.position FROM agents_executionmessage m"
                " JOIN agents_agentexecution e ON e.id = m.execution_id"
                " WHERE e.session_id = %s AND m.message->>'type' = 'ai'"
            )
        )
        settled = Counter(call["key"].partition("@")[0] for call in calls if call["state"] == "settled")
        self._require(not kept - settled, f"replies that nobody paid for: {dict(kept - settled)}")
        # What came when its worker had lost the session, or the session its wish to run, is paid for and not kept.
        stops = sum(event["type"] in ("SessionStarted", "SessionPaused", "SessionRewound") for event in self.events)
        lost = sum((settled - kept).values())
        most = (stops - 1) * self.session["lanes"]
        self._require(lost <= most, f"{lost} replies were paid for in vain, over {stops} stops: {dict(settled - kept)}")
        [budget] = self._rows("SELECT reserved_steps, reserved_tokens FROM usage_budget WHERE scope_id = %s")
        self._require(not any(budget.values()), f"held at the end: {budget}")

    def _calls(self) -> None:
        """Each call of a tool was begun once, came to an end once, and is told of so."""
        rows = self._rows("SELECT id::text, name, status FROM agents_toolcall WHERE session_id = %s")
        left = [row["name"] for row in rows if row["status"] != "finished"]
        self._require(not left, f"calls that did not end: {left}")
        told = Counter(
            (e["type"], e["payload"]["call"]) for e in self.events if e["type"] in ("ToolStarted", "ToolFinished")
        )
        twice = {key: count for key, count in told.items() if count > 1 and key[0] == "ToolStarted"}
        self._require(not twice, f"told twice: {twice}")
        ends = Counter(
            event["payload"]["call"]
            for event in self.live
            if event["type"] == "ToolFinished" and not event["payload"].get("interrupted")
        )
        self._require(set(ends.values()) <= {1}, f"calls that ended twice: {[c for c, n in ends.items() if n > 1]}")
        waiting = self._rows(
            "SELECT text FROM agents_steering WHERE session_id = %s AND retired IS NULL AND delivered_seq IS NULL"
        )
        self._require(not waiting, f"words that nobody heard: {[row['text'] for row in waiting]}")

    def _leftovers(self) -> None:
        self._require(
            wait_until(lambda: not any(self._left().values()), seconds=_LEFT_SECONDS), f"left behind: {self._left()}"
        )

    def _left(self) -> Mapping[str, object]:
        folder = runtime_root(self.fleet.home) / "workspaces" / self.session_id
        lanes = [entry.name for entry in folder.iterdir() if entry.name.startswith("task-")] if folder.is_dir() else []
        refs = git(self.git_dir, "for-each-ref", "--format=%(refname:short)", "refs/heads/archon").splitlines()
        [head] = self._rows("SELECT owner, lease_expires_at, wanted FROM agents_sessionhead WHERE session_id = %s")
        return {
            "worktrees": lanes,
            "branches": [ref for ref in refs if ref.startswith(f"{self.session['branch']}.")],
            "lease": head["owner"] or head["lease_expires_at"],
            "wanted": head["wanted"],
        }


def fsck(git_dir: Path) -> str:
    """What git finds wrong with the repository; empty: nothing."""
    done = subprocess.run(
        ["git", "--git-dir", str(git_dir), "fsck", "--connectivity-only", "--no-dangling"],
        check=False,
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[:2000]
