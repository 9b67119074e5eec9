"""Carrying out a plan: choose a task, have it coded, and go on by what the server finds of it, or again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.brief import task_brief
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.follow_up import work_continue
from apps.agents.nodes.judging import FINAL_EFFECT, acceptance_final
from apps.agents.nodes.lane_ground import branch_take, ground_of
from apps.agents.nodes.lanes_choice import lanes_wanted, tasks_startable
from apps.agents.nodes.opening import conversation_opening
from apps.agents.nodes.replan_choice import replan_wanted
from apps.agents.nodes.task_rows import attempt_of, head_commit, is_reading, task_load, tasks_load
from apps.agents.tools.base import text_cut
from apps.agents.types import Event
from apps.core.errors import Conflict, NotFound
from apps.core.kill_points import kill_point
from apps.planning.services import task_begin, task_update_status
from apps.planning.types import TaskProgress, TaskStatus

#: What a task is told of another's result, in characters: of what was found out, more than of what was done.
RESULT_TOLD, ANSWER_TOLD = 2_000, 12_000


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
