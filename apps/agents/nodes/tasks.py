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

from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.baseline import checks_brief
from apps.agents.nodes.brief import task_brief
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.follow_up import follow_up_head, follow_up_judge, work_continue
from apps.agents.nodes.judging import (
    FINAL_EFFECT,
    TaskJudged,
    acceptance_brief,
    acceptance_final,
    checks_present,
    commit_judge_task,
)
from apps.agents.nodes.lane_ground import branch_take, ground_of, marks_told
from apps.agents.nodes.lanes_choice import lanes_wanted, tasks_startable
from apps.agents.nodes.opening import conversation_opening
from apps.agents.nodes.replan_choice import replan_wanted
from apps.agents.services.ledger_records import Snapshot
from apps.agents.tools.base import text_cut
from apps.agents.types import Event
from apps.core.errors import Conflict, NotFound
from apps.core.kill_points import kill_point
from apps.planning.scheduling import SATISFIED
from apps.planning.selectors import plan_progress
from apps.planning.services import task_begin, task_update_status
from apps.planning.types import PlanProgress, TaskAgent, TaskProgress, TaskStatus
from apps.projects.checks import Verification
from apps.projects.workspace import WorkspaceError

#: How many commits in a row may fail before a task is given up; those that passed and were sent back don't count.
ATTEMPTS = 3
#: What a task is told of another's result, in characters: of what was found out, more than of what was done.
RESULT_TOLD, ANSWER_TOLD = 2_000, 12_000
#: Why a commit that passed is worked on again, in the effect of that: for the reviewer, or as it could not be merged.
SENT_BACK, NOT_MERGED = "review", "merge"


async def task_next(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """What comes next: a task, several side by side, a look at the plan, or the report."""
    context = runtime.context
    passed_over: set[uuid.UUID] = set()
    while True:
        tasks = await tasks_load(context)
        if await replan_wanted(context, tasks):
            await branch_take(context)
            return {"task_id": "", "way": "replan"}
        if await lanes_wanted(context, tasks):
            return {"task_id": "", "way": "lanes"}
        await branch_take(context)
        task = task_choose(context.facts.session_id, [task for task in tasks if task.id not in passed_over])
        if task is None:
            return {"task_id": "", "way": "report"}
        if await task_start(context, task) is not None:
            return {"task_id": str(task.id), "attempt": await attempt_of(context, task), "way": "code"}
        # Between the look and the beginning a person did without it: the look is taken again.
        passed_over.add(task.id)


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
            role=role, task_id=task.id, messages=await conversation_opening(context, role=role, brief=brief)
        )
    ended = await context.ledger.result_load(execution_id) is not None
    work_id = str(execution_id)
    return {
        "execution_id": work_id, "work_id": work_id, "role": task.agent_type.value, "ended": ended, "round": 0
    }  # fmt: skip


async def task_start(context: RunContext, task: TaskProgress) -> str | None:
    """Have the task run, from the branch's head: the commit that it starts from.

    None: the plan is another one by now, in which the task can't start, or isn't there.
    """
    key = f"begin:{task.id}"
    if (begun := await context.ledger.effect_find(key)) is None:
        begun = {"parent": await head_commit(context)}
        try:
            await context.ledger.effect_apply(
                key,
                partial(task_begin, task_id=task.id, session_id=context.facts.session_id),
                Event("PhaseChanged", {"phase": "researching" if is_reading(task) else "coding"}),
                Event("TaskStarted", {"task": str(task.id), "title": task.title, "attempt": 1}),
                result=begun,
            )
        except (Conflict, NotFound):
            return None
    return str(begun["parent"])


async def task_open(context: RunContext, task: TaskProgress) -> str:
    """The files as they are at the commit that the task, which runs, starts from; that commit."""
    begun = await context.ledger.effect_find(f"begin:{task.id}")
    assert begun is not None
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
        f"- {tasks[key].title}: {text_cut(tasks[key].result, ANSWER_TOLD if is_reading(tasks[key]) else RESULT_TOLD)}"
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


async def task_accept(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """The task's commit stands."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    verified = await context.ledger.effect_find(f"verify:{task_id}:{attempt}")
    assert verified is not None
    committed = Event("TaskCommitted", {"task": str(task_id), "commit": verified["commit"], "files": verified["files"]})
    done = task_ended(task_id, TaskStatus.DONE, attempt, verified)
    accepted = {"commit": verified["commit"], **({"reading": True} if verified.get("reading") else {})}
    await context.ledger.effect_apply(f"accept:{task_id}", done, committed, result=accepted)
    kill_point("task.accepted")
    return {}


async def task_retry(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Tell the coder, in the same conversation, what the server found."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    verified = await context.ledger.effect_find(f"verify:{task_id}:{attempt}")
    assert verified is not None
    text = (
        "The server ran the checks on your commit, and it doesn't stand yet.\n\n"
        f"{verified['observation']}\n\nGo on with the same task. The files are as you left them."
    )
    return await work_again(context, state, text, result={})


async def work_again(context: RunContext, state: SessionState, text: str, *, result: Mapping[str, Any]) -> SessionState:
    """Have whoever carries the task out go on with it in the same conversation, with this as its next message."""
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    execution_id = uuid.UUID(state["work_id"])
    key = f"retry:{task_id}:{attempt}"
    if await context.ledger.effect_find(key) is None:
        transcript = await context.transcript(execution_id)
        task = await task_load(context, task_id)
        started = Event("TaskStarted", {"task": str(task_id), "title": task.title, "attempt": attempt + 1})
        await context.ledger.fenced(
            task_update_status, task_id=task_id, status=TaskStatus.RUNNING, attempts=attempt + 1
        )
        async with context.ledger.transaction(started) as connection:
            await context.ledger.effect_insert(connection, key, result)
            await context.ledger.result_set(connection, execution_id, None)
            await context.ledger.message_insert(connection, execution_id, len(transcript), HumanMessage(text))
        context.conversation_forget(execution_id)
    role = (await task_load(context, task_id)).agent_type.value
    return {"attempt": attempt + 1, "execution_id": str(execution_id), "role": role, "ended": False, "round": 0}


async def task_give_up(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """The task failed; its last commit stays on the branch for a person to look at."""
    return await work_give_up(runtime.context, state)


async def work_give_up(context: RunContext, state: SessionState, *, reason: str = "") -> SessionState:
    """Have the task be one that failed; ``reason``: where it is not for what the server found."""
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    verified = await context.ledger.effect_find(f"verify:{task_id}:{attempt}")
    assert verified is not None
    failed = Event("TaskFailed", {"task": str(task_id), "reason": reason or "; ".join(verified["reasons"])})
    given_up = task_ended(task_id, TaskStatus.FAILED, attempt, verified)
    await context.ledger.effect_apply(f"give-up:{task_id}", given_up, failed)
    return {}


async def tasks_close(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Before the report: whether what the finished tasks were to achieve still holds on the last commit."""
    context = runtime.context
    tasks = await tasks_load(context)
    if any(task.acceptance and task.status is TaskStatus.DONE for task in tasks):
        key = context.facts.turn_key(FINAL_EFFECT)
        await acceptance_final(context, tasks, await head_commit(context), key=key)
    return {}


async def task_block(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """The task can't be done before something else has changed: what its agent did is put aside, for a rewind."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    result = await context.ledger.result_load(uuid.UUID(state["work_id"]))
    assert result is not None
    parent, said = (await ground_of(context, task_id, attempt)).parent, result["blocked"]
    aside, back = f"put-aside:{task_id}", f"put-back:{task_id}"
    if await context.ledger.effect_find(aside) is None:
        await context.ledger.effect_record(aside, result={}, snapshot=await context.site.files_keep())
    if await context.ledger.effect_find(back) is None:
        # An earlier attempt may have left a commit there.
        await context.site.branch_rebased(commit=parent, expected=await context.site.branch_tip())
        kept = context.site.kept_as(parent)
        # In a lane the session's branch is where it was.
        columns = {"head_commit": parent} if context.lane is None else {}
        await context.ledger.effect_record(back, result={}, snapshot=kept, **columns)
    reason = f"{said['reason']} (needs: {said['needs']})"
    told = f"blocked: {reason}"
    left = partial(
        task_update_status, task_id=task_id, status=TaskStatus.FAILED, attempts=attempt, commit="", result=told
    )
    blocked = Event("TaskBlocked", {"task": str(task_id), "reason": reason})
    await context.ledger.effect_apply(f"block:{task_id}", left, blocked, result={"reason": reason, "result": told})
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


def is_reading(task: TaskProgress) -> bool:
    """Whether the task's agent only reads: it makes no commit, and what it found out is its result."""
    return task.agent_type is not TaskAgent.CODER


async def tasks_load(context: RunContext) -> list[TaskProgress]:
    """The plan's tasks in its order; in a follow-up, those that it has brought, needing what else isn't done yet."""
    return tasks_of(context, await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id))


def tasks_of(context: RunContext, progress: PlanProgress) -> list[TaskProgress]:
    """The tasks that the session is at, as :func:`tasks_load`."""
    if not context.facts.turn:
        return list(progress.tasks)
    own = context.facts.follow_up_key
    tasks = [task for feature in progress.features if feature.key == own for task in feature.tasks]
    past = {task.key for task in progress.tasks if task.status in SATISFIED} - {task.key for task in tasks}
    return [dataclasses.replace(task, needs=tuple(key for key in task.needs if key not in past)) for task in tasks]


async def task_load(context: RunContext, task_id: uuid.UUID) -> TaskProgress:
    """A task of the session's plan as it is now."""
    return next(task for task in await tasks_load(context) if task.id == task_id)


async def attempt_of(context: RunContext, task: TaskProgress) -> int:
    """The attempt that the task is at: those before it were sent back to the coder."""
    attempt = 1
    while await context.ledger.effect_find(f"retry:{task.id}:{attempt}") is not None:
        attempt += 1
    return attempt


async def failed_in_a_row(context: RunContext, task_id: uuid.UUID, attempt: int) -> int:
    """How many commits up to this one failed since the task began, or since one passed that was sent back."""
    failed = 1
    while attempt - failed >= 1:
        sent = await context.ledger.effect_find(f"retry:{task_id}:{attempt - failed}")
        if sent is None or sent.get("why") in (SENT_BACK, NOT_MERGED):
            break
        failed += 1
    return failed


async def head_commit(context: RunContext) -> str:
    """Where the work stands: the last accepted task's commit, or what the session (or turn) began with."""
    tasks = [task for task in await tasks_load(context) if task.status is TaskStatus.DONE and not is_reading(task)]
    own = {f"accept:{task.id}": task for task in tasks}
    last = await context.ledger.effect_last(list(own))
    if last is not None:
        key, accepted = last
        return str(accepted.get("commit") or own[key].commit)
    return await follow_up_head(context) if context.facts.turn else context.facts.base_commit
