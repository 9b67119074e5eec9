"""Carrying out a plan: choose a task, have it coded, commit, let the server judge the commit, and go on or again."""

from __future__ import annotations

import dataclasses
import datetime
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.baseline import Baseline, baseline_open, checks_brief, checks_observe
from apps.agents.nodes.brief import task_brief
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.follow_up import follow_up_head, follow_up_judge, work_continue
from apps.agents.nodes.lane_ground import branch_take, ground_of, marks_told
from apps.agents.nodes.lanes_choice import lanes_wanted, tasks_startable
from apps.agents.nodes.replan_choice import replan_wanted
from apps.agents.prompts import prompt_read
from apps.agents.services.ledger_records import Snapshot
from apps.agents.tools.base import text_cut
from apps.agents.types import Event
from apps.core.errors import InvalidInput
from apps.core.kill_points import kill_point
from apps.core.storable import json_storable, text_storable
from apps.planning.document import follow_up_key
from apps.planning.scheduling import SATISFIED
from apps.planning.selectors import plan_progress
from apps.planning.services import task_begin, task_update_status
from apps.planning.types import TaskProgress, TaskStatus
from apps.projects.checks import Verification
from apps.projects.environment import EnvironmentSetupFailed
from apps.projects.workspace import WorkspaceError

#: Tests of each kind that are listed by name in what is kept of a verification.
LISTED_TESTS = 200
#: How often a task is coded before it is given up.
ATTEMPTS = 3


async def task_next(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """What comes next: a task, several side by side, a look at the plan, or the report."""
    context = runtime.context
    tasks = await tasks_load(context)
    if await lanes_wanted(context, tasks):
        return {"task_id": "", "way": "lanes"}
    await branch_take(context)
    task = task_choose(context.facts.session_id, tasks)
    if task is not None:
        return {"task_id": str(task.id), "attempt": await attempt_of(context, task), "way": "code"}
    return {"task_id": "", "way": "replan" if await replan_wanted(context, tasks) else "report"}


def route_after_choice(state: SessionState) -> str:
    return state["way"]


def task_choose(session_id: uuid.UUID, tasks: Sequence[TaskProgress]) -> TaskProgress | None:
    """The task that this session is at, or the first that can start; None where nothing can."""
    running = (task for task in tasks if task.status is TaskStatus.RUNNING)
    return next(running, None) or next(iter(tasks_startable(tasks)), None)


async def code_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Open the coder's conversation on the task."""
    context = runtime.context
    task = await task_load(context, uuid.UUID(state["task_id"]))
    await task_open(context, task)
    if context.facts.turn:
        execution_id = await work_continue(context, task_id=task.id)
    else:
        further = await needed_told(context, task)
        brief = await task_brief(
            context, key=str(task.id), title=task.title, instructions=task.instructions, further=further
        )
        role = task.agent_type.value
        execution_id = await context.ledger.execution_open(
            role=role, task_id=task.id, messages=[SystemMessage(prompt_read(role)), brief]
        )
    ended = await context.ledger.result_load(execution_id) is not None
    return {"execution_id": str(execution_id), "role": task.agent_type.value, "ended": ended}


async def task_open(context: RunContext, task: TaskProgress) -> str:
    """Have the task run, from the branch's head, and the files be those of that; the commit that it starts from."""
    key = f"begin:{task.id}"
    if (begun := await context.ledger.effect_find(key)) is None:
        begun = {"parent": await head_commit(context)}
        await context.ledger.effect_apply(
            key,
            partial(task_begin, task_id=task.id, session_id=context.facts.session_id),
            Event("PhaseChanged", {"phase": "coding"}),
            Event("TaskStarted", {"task": str(task.id), "title": task.title, "attempt": 1}),
            result=begun,
        )
    parent = str(begun["parent"])
    placed = f"placed:{task.id}"
    if await context.ledger.effect_find(placed) is None:
        snapshot = None
        tip = await context.site.branch_tip()
        if tip != parent:
            # A task that was given up before this one has left its last commit there.
            await context.site.branch_rebased(commit=parent, expected=tip)
            snapshot = context.site.kept_as(parent)
        await context.ledger.effect_record(placed, result={"tip": tip}, snapshot=snapshot)
    return parent


async def needed_told(context: RunContext, task: TaskProgress) -> list[str]:
    """What the tasks that this one builds on came to, as a part of its brief."""
    tasks = {other.key: other for other in await tasks_load(context)}
    lines = [
        f"- {tasks[key].title}: {text_cut(tasks[key].result, 2000)}"
        for key in task.needs
        if key in tasks and tasks[key].result
    ]
    files = ", ".join((*task.files, *(f"{path} (new)" for path in task.creates)))
    checks = "\n".join(f"- `{command}`" for command in task.checks)
    parts = [
        "What was done before, which this builds on:\n" + "\n".join(lines) if lines else "",
        f"It is expected to touch: {files}" if files else "",
        f"It is done when these hold, besides the checks (exit code 0):\n{checks}" if checks else "",
    ]
    return [part for part in parts if part]


async def verify(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Commit what the coder left and run the checks on that commit, in a sandbox that the coder never touched."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    key = f"verify:{task_id}:{attempt}"
    found = await context.ledger.effect_find(key)
    known = found if found is not None else await _verify_once(context, state, key)
    if known["acceptable"]:
        return {"verdict": "passed"}
    # Each time that its work could not be merged, the task began anew on other ground.
    allowed = ATTEMPTS + (await ground_of(context, task_id, attempt)).rounds
    return {"verdict": "retry" if attempt < allowed and not known["hopeless"] else "failed"}


def route_after_verify(state: SessionState) -> str:
    return state["verdict"]


async def task_accept(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """The task's commit stands."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    verified = await context.ledger.effect_find(f"verify:{task_id}:{attempt}")
    assert verified is not None
    committed = Event("TaskCommitted", {"task": str(task_id), "commit": verified["commit"], "files": verified["files"]})
    done = task_ended(task_id, TaskStatus.DONE, attempt, verified)
    await context.ledger.effect_apply(f"accept:{task_id}", done, committed, result={"commit": verified["commit"]})
    kill_point("task.accepted")
    return {}


async def task_retry(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Tell the coder, in the same conversation, what the server found."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    execution_id = uuid.UUID(state["execution_id"])
    key = f"retry:{task_id}:{attempt}"
    if await context.ledger.effect_find(key) is None:
        verified = await context.ledger.effect_find(f"verify:{task_id}:{attempt}")
        assert verified is not None
        transcript = await context.transcript(execution_id)
        message = HumanMessage(
            "The server ran the checks on your commit, and it doesn't stand yet.\n\n"
            f"{verified['observation']}\n\nGo on with the same task. The files are as you left them."
        )
        title = (await task_load(context, task_id)).title
        started = Event("TaskStarted", {"task": str(task_id), "title": title, "attempt": attempt + 1})
        await context.ledger.fenced(
            task_update_status, task_id=task_id, status=TaskStatus.RUNNING, attempts=attempt + 1
        )
        async with context.ledger.transaction(started) as connection:
            await context.ledger.effect_insert(connection, key, {})
            await context.ledger.result_set(connection, execution_id, None)
            await context.ledger.message_insert(connection, execution_id, len(transcript), message)
        context.conversation_forget(execution_id)
    return {"attempt": attempt + 1, "ended": False}


async def task_give_up(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """The task failed; its last commit stays on the branch for a person to look at."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    verified = await context.ledger.effect_find(f"verify:{task_id}:{attempt}")
    assert verified is not None
    failed = Event("TaskFailed", {"task": str(task_id), "reason": "; ".join(verified["reasons"])})
    given_up = task_ended(task_id, TaskStatus.FAILED, attempt, verified)
    await context.ledger.effect_apply(f"give-up:{task_id}", given_up, failed)
    return {}


def task_ended(
    task_id: uuid.UUID, status: TaskStatus, attempt: int, verified: Mapping[str, Any]
) -> Callable[[], object]:
    """What has the task's row say how it ended."""
    return partial(
        task_update_status,
        task_id=task_id,
        status=status,
        attempts=attempt,
        commit=verified["commit"],
        result=verified["summary"],
        check_results=verified.get("acceptance", []),
    )


async def commit_judge(context: RunContext, baseline: Baseline, commit: str, *, apart: bool = False) -> Verification:
    """The server's checks on a commit. What cannot be installed any more fails, with the set-up's own words.

    ``apart``: the worktree doesn't hold it, so what it needs installed is looked up in the commit itself.
    """
    try:
        spec = (await context.site.requirements_of(commit))[0] if apart else None
        return await context.site.verify(commit=commit, specs=baseline.specs, before=baseline.before, spec=spec)
    except EnvironmentSetupFailed as error:
        reason = f"the environment that the commit asks for cannot be set up: {error.message}"
        return Verification("failing", (reason,), (), ())
    except InvalidInput as error:
        # The folder that the work was to be in is gone.
        return Verification("failing", (error.message,), (), ())


def checks_present(verification: Verification) -> list[dict[str, Any]]:
    """What the checks said before and after, as the session's row keeps it and the API shows it."""
    reports = {report.name: report for report in verification.reports}
    presented = []
    for comparison in verification.comparisons:
        report = reports.get(comparison.name)
        presented.append(
            {
                **{
                    # A change can break every test of 26,000; the counts tell it as well.
                    key: value[:LISTED_TESTS] if isinstance(value, tuple) else value
                    for key, value in dataclasses.asdict(comparison).items()
                },
                "command": report.command if report else "",
                "exit_code": report.exit_code if report else None,
                "output": report.output[-8000:] if report else "",
            }
        )
    plain: list[dict[str, Any]] = json_storable(presented)
    return plain


async def _verify_once(context: RunContext, state: SessionState, key: str) -> Mapping[str, Any]:
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    task = await task_load(context, task_id)
    ground = await ground_of(context, task_id, attempt)
    result = await context.ledger.result_load(uuid.UUID(state["execution_id"])) or {}
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
        judged = await work_told(context, task, commit, files, Verification("failing", (str(error),), (), ()))
    else:
        commit, files = committed.commit or ground.parent, [change.path for change in committed.files]
        kept = context.site.kept_as(commit)
        problem = await marks_told(context, ground, commit)
        if problem:
            judged = await work_told(context, task, commit, files, Verification("failing", (problem,), (), ()))
        else:
            judged = await work_judge(context, task, commit, files)
    known = {**judged.known, "hopeless": bool(result.get("unfinished")), "summary": summary}
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
            {"task": str(task_id), "attempt": attempt, "passed": known["acceptable"], "reasons": known["reasons"]},
        ),
        result=known,
        snapshot=kept,
        **columns,
    )
    return known


@dataclass(frozen=True)
class Judged:
    """What the server finds of a commit with a task's work: as effects keep it, and the event of its checks."""

    known: dict[str, Any]
    checked: Event


async def work_judge(
    context: RunContext, task: TaskProgress, commit: str, files: list[str], *, apart: bool = False
) -> Judged:
    """Have a commit with a task's work checked, be it the one that its agent left or the one that comes of a merge."""
    judged = await commit_judge(context, await baseline_open(context), commit, apart=apart)
    if context.facts.turn:
        judged = await follow_up_judge(context, judged, commit=commit)
    return await work_told(context, task, commit, files, judged)


async def work_told(
    context: RunContext, task: TaskProgress, commit: str, files: list[str], judged: Verification
) -> Judged:
    """What was found of a commit, and whether the task may be accepted with it."""
    last = all(other.status in SATISFIED for other in await tasks_load(context) if other.id != task.id)
    worse = not judged.comparisons or any(
        check.newly_failing
        or check.disappeared
        or check.vanished_failures
        # A check that tells no tests apart is worse as a whole.
        or (check.before in ("passed", "flaky") and check.after == "failed")
        for check in judged.comparisons
    )
    observation = checks_observe(judged.reports).text
    if judged.reasons:
        observation += "\nThe server's verdict: " + " ".join(judged.reasons)
    known = {
        "commit": commit,
        "files": files,
        # Tasks before the last one may leave what failed before failing; they must not make anything worse.
        "acceptable": judged.outcome != "failing" or (not last and not worse),
        "outcome": judged.outcome,
        "reasons": list(judged.reasons),
        "observation": text_storable(observation),
        "checks": checks_present(judged),
    }
    told = {"stage": "after", "commit": commit, "checks": checks_brief(judged.reports)}
    return Judged(known, Event("ChecksFinished", told))


async def tasks_load(context: RunContext) -> list[TaskProgress]:
    """The plan's tasks in its order; in a follow-up, those that it has brought."""
    progress = await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id)
    if not context.facts.turn:
        return list(progress.tasks)
    own = follow_up_key(context.facts.turn)
    return [task for feature in progress.features if feature.key == own for task in feature.tasks]


async def task_load(context: RunContext, task_id: uuid.UUID) -> TaskProgress:
    """A task of the session's plan as it is now."""
    return next(task for task in await tasks_load(context) if task.id == task_id)


async def attempt_of(context: RunContext, task: TaskProgress) -> int:
    """The attempt that the task is at: those before it were sent back to the coder."""
    attempt = 1
    while await context.ledger.effect_find(f"retry:{task.id}:{attempt}") is not None:
        attempt += 1
    return attempt


async def head_commit(context: RunContext) -> str:
    """Where the work stands: the last accepted task's commit, or what the session (or turn) began with."""
    own = {f"accept:{task.id}": task for task in await tasks_load(context) if task.status is TaskStatus.DONE}
    last = await context.ledger.effect_last(list(own))
    if last is not None:
        key, accepted = last
        return str(accepted.get("commit") or own[key].commit)
    return await follow_up_head(context) if context.facts.turn else context.facts.base_commit
