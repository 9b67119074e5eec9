"""Committing what was done for a task, and the server's word on it: whether the task may be accepted with that."""

from __future__ import annotations

import dataclasses
import datetime
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.runtime import Runtime

from apps.agents.nodes.baseline import checks_brief
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.follow_up import follow_up_judge
from apps.agents.nodes.judging import TaskJudged, acceptance_brief, checks_present, commit_judge_task
from apps.agents.nodes.lane_ground import ground_of, marks_told
from apps.agents.nodes.task_rows import failed_in_a_row, is_reading, task_load, tasks_load
from apps.agents.services.ledger_records import Snapshot
from apps.agents.tools.base import text_cut
from apps.agents.types import Event
from apps.core.kill_points import kill_point
from apps.planning.scheduling import SATISFIED
from apps.planning.types import TaskProgress
from apps.projects.checks import Verification
from apps.projects.workspace import WorkspaceError

#: How many commits in a row may fail before a task is given up; those that passed and were sent back don't count.
ATTEMPTS = 3


async def verify(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Commit what the coder left and run the checks on that commit, in a sandbox that the coder never touched."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    result = await context.ledger.result_load(uuid.UUID(state["work_id"])) or {}
    if "blocked" in result:
        # Work that isn't finished is not judged.
        return {"verdict": "blocked"}
    key = f"verify:{task_id}:{attempt}"
    found = await context.ledger.effect_find(key)
    known = found if found is not None else await _verify_once(context, state, key)
    if known["acceptable"]:
        return {"verdict": "passed"}
    again = not known["hopeless"] and await failed_in_a_row(context, task_id, attempt) < ATTEMPTS
    return {"verdict": "retry" if again else "failed"}


def route_after_verify(state: SessionState) -> str:
    return state["verdict"]


async def _verify_once(context: RunContext, state: SessionState, key: str) -> Mapping[str, Any]:
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    task = await task_load(context, task_id)
    ground = await ground_of(context, task_id, attempt)
    result = await context.ledger.result_load(uuid.UUID(state["work_id"])) or {}
    if is_reading(task):
        return await _answer_take(context, task, attempt, ground.parent, result, key)
    summary = str(result.get("summary", ""))
    # The time is part of the commit: written down first, so that a replay makes the same commit.
    intent = await context.ledger.effect_record(
        f"commit:{task_id}:{attempt}", Event("PhaseChanged", {"phase": "verifying"}), result={"at": int(time.time())}
    )
    message = f"{task.title}\n\n{text_cut(summary, 2000)}".strip() + f"\n\nArchon-Session: {context.facts.session_id}\n"
    kept: Snapshot | None = None
    try:
        committed = await context.site.commit(
            message=message,
            parent=ground.parent,
            replaces=ground.replaces,
            timestamp=datetime.datetime.fromtimestamp(intent["at"], datetime.UTC),
        )
    except WorkspaceError as error:
        # What the coder left cannot be kept (a huge file, say): it hears so, as of any check that fails.
        before = await context.ledger.effect_find(f"verify:{task_id}:{attempt - 1}")
        commit, files = ground.replaces, list(before["files"]) if before else []
        judged = await work_told(context, task, commit, files, _failing(str(error)))
    else:
        commit, files = committed.commit or ground.parent, [change.path for change in committed.files]
        kept = context.site.kept_as(commit)
        problem = await marks_told(context, ground, commit)
        if problem:
            judged = await work_told(context, task, commit, files, _failing(problem))
        else:
            judged = await work_judge(context, task, commit, files)
    reasons = [*judged.known["reasons"], *([str(result["reason"])] if result.get("reason") else [])]
    known = {**judged.known, "reasons": reasons, "hopeless": bool(result.get("unfinished")), "summary": summary}
    columns: dict[str, Any] = {"head_commit": commit, "checks": known["checks"]}
    if context.lane is not None:
        # The session's branch is where it was, until the task's work is merged.
        known["lane"], columns = context.lane.name, {}
    kill_point("task.judged")
    await context.ledger.effect_record(
        key,
        judged.checked,
        Event(
            "TaskVerified",
            {
                "task": str(task_id),
                "attempt": attempt,
                "passed": known["acceptable"],
                "reasons": reasons,
                "checks": acceptance_brief(judged.found.acceptance),
            },
        ),
        result=known,
        snapshot=kept,
        **columns,
    )
    return known


@dataclass(frozen=True)
class Judged:
    """What the server finds of a commit with a task's work: in all, as effects keep it, and the event of its checks."""

    found: TaskJudged
    known: dict[str, Any]
    checked: Event


async def work_judge(
    context: RunContext, task: TaskProgress, commit: str, files: list[str], *, apart: bool = False
) -> Judged:
    """Have a commit with a task's work checked, be it the one that its agent left or the one that comes of a merge.

    ``apart``: the worktree doesn't hold it.
    """
    found = await commit_judge_task(context, task, commit, apart=apart)
    if context.facts.turn:
        verification = await follow_up_judge(context, found.verification, commit=commit)
        found = dataclasses.replace(found, verification=verification)
    return await work_told(context, task, commit, files, found)


async def work_told(
    context: RunContext, task: TaskProgress, commit: str, files: list[str], found: TaskJudged
) -> Judged:
    """What was found of a commit, and whether the task may be accepted with it."""
    verification = found.verification
    worse = not verification.comparisons or any(
        check.newly_failing or check.disappeared or check.vanished_failures
        # A check that tells no tests apart is worse as a whole.
        or (check.before in ("passed", "flaky") and check.after == "failed")
        for check in verification.comparisons
    )
    # Tasks before the last one may leave what failed before failing; they must not make anything worse. What shows that
    # the task itself is done has to hold, whichever it is.
    last = await is_last(context, task)
    known = {
        "commit": commit,
        "files": files,
        "acceptable": found.accepted and (verification.outcome != "failing" or (not last and not worse)),
        "outcome": found.outcome,
        "reasons": list(found.reasons),
        "observation": found.told,
        "checks": checks_present(verification),
        "acceptance": [each.as_dict() for each in found.acceptance],
    }
    told = {"stage": "after", "commit": commit, "checks": checks_brief(verification.reports)}
    return Judged(found, known, Event("ChecksFinished", told))


async def is_last(context: RunContext, task: TaskProgress) -> bool:
    """Whether nothing else of the plan has yet to change the code."""
    others = [other for other in await tasks_load(context) if other.id != task.id]
    return all(other.status in SATISFIED or is_reading(other) for other in others)


def _failing(reason: str) -> TaskJudged:
    return TaskJudged(Verification("failing", (reason,), (), ()))


async def _answer_take(
    context: RunContext, task: TaskProgress, attempt: int, parent: str, result: Mapping[str, Any], key: str
) -> Mapping[str, Any]:
    """What an agent that only reads came to: there is nothing to commit or to check, so an answer is all it takes."""
    answered = bool(result.get("summary")) and not result.get("unfinished")
    reasons = [] if answered else [str(result.get("reason") or "it ended without an answer")]
    passed = {"task": str(task.id), "attempt": attempt, "passed": answered, "reasons": reasons, "checks": []}
    known = {
        "commit": parent,
        "files": [],
        "acceptable": answered,
        "hopeless": True,
        "summary": str(result.get("summary", "")),
        "outcome": "unverified",
        "reasons": reasons,
        "observation": "",
        "checks": [],
        "acceptance": [],
        "reading": True,
    }
    return await context.ledger.effect_record(key, Event("TaskVerified", passed), result=known)
