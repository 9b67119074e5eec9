"""Tasks side by side: each in a worktree of its own and through the same nodes as any, then merged one by one.

Where each lane is follows from rows, as it does elsewhere: a worker that takes the session up begins every lane anew
and finds what it did. What a lane does is one graph (``graphs.lane``), which the executor hands in.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from langgraph.runtime import Runtime

from apps.agents.nodes.context import RunContext, SessionState, SessionSuspended
from apps.agents.nodes.lane_crew import Crew, Lane, task_current
from apps.agents.nodes.lanes_choice import lanes_begun, tasks_startable
from apps.agents.nodes.replan_choice import causes_open
from apps.agents.nodes.task_rows import attempt_of, head_commit, is_reading, tasks_load
from apps.agents.selectors import lanes_opened, snapshot_last
from apps.agents.services.ledger_records import Snapshot
from apps.agents.services.sessions import StaleFence
from apps.agents.types import Event, HandOver
from apps.context.freshness import lanes_files_forget
from apps.core.cancellation import uninterrupted
from apps.core.errors import Conflict, NotFound
from apps.core.kill_points import kill_point
from apps.planning.services import task_begin
from apps.planning.types import TaskProgress, TaskStatus
from apps.projects.worktree_lanes import lane_branch, lane_clear, lane_name, lanes_list
from apps.usage.errors import BudgetExceeded

#: More than any task takes; the agent loop has a limit of its own.
_STEPS = 100_000

Node = Callable[[SessionState, Runtime[RunContext]], Awaitable[SessionState]]


async def lanes_run(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Work on tasks side by side, as many as may be, until no more than one is left that can start."""
    context = runtime.context
    crew = Crew(leaving=context.leaving)
    ledger = context.ledger
    alone = ledger.settle, ledger.task_beside
    ledger.settle, ledger.task_beside = crew.settle, task_current
    try:
        await _lanes_work(context, crew)
    finally:
        ledger.settle, ledger.task_beside = alone
        # Losing the session, or its time being up, ends all of them at once.
        await uninterrupted(crew.end())
    # What a worker that died has left of lanes that are over.
    await ledger.database.run_in_thread(_lanes_sweep, context)
    return {}


def lane_step(node: Node) -> Any:
    """A node as a lane takes it: it begins only while nothing has the session stop.

    What others hold for the time of a call may be all that is left of the budget: then it is taken again when one of
    them has come to the end of its step.
    """

    @functools.wraps(node)
    async def step(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
        lane = runtime.context.lane
        assert lane is not None
        while True:
            lane.crew.step_begin()
            try:
                with lane.crew.at_work(lane.task_id):
                    return await node(state, runtime)
            except BudgetExceeded as error:
                if not Decimal(error.extra["reserved"]) or not await lane.crew.room_await():
                    raise

    return step


async def _lanes_work(context: RunContext, crew: Crew) -> None:
    """Keep as many going as may be. What ends one and is no end of its task ends the session's run, after the others'
    steps."""
    errors: list[BaseException] = []
    while True:
        if not crew.is_closing:
            for task in await _lanes_due(context, crew):
                crew.start(task.id, partial(_lane_work, context, crew, task))
        if not len(crew):
            break
        for error in await crew.ended():
            if isinstance(error, (StaleFence, asyncio.CancelledError)) or not isinstance(error, Exception):
                raise error
            errors.append(error)
            crew.close()
    if errors:
        raise min(errors, key=_weight)
    context.hand_over_if_asked()


def _weight(error: BaseException) -> int:
    """Of several reasons to stop, the one that the rows tell of already comes first, and leaving last."""
    return 0 if isinstance(error, SessionSuspended) else 2 if isinstance(error, HandOver) else 1


async def _lanes_due(context: RunContext, crew: Crew) -> list[TaskProgress]:
    """Tasks that are to be worked on now and aren't yet: those that were begun, and new ones where there is a place."""
    tasks = await tasks_load(context)
    running = [task for task in tasks if task.status is TaskStatus.RUNNING and task.id not in crew]
    begun = await lanes_begun(context, running)
    free = context.facts.lanes - len(crew) - len(begun)
    ready = tasks_startable(tasks)
    if not len(crew) and not begun and len(ready) < 2:
        # A single one needs no place of its own.
        return []
    # What has happened meanwhile is looked at before anything new begins.
    if free > 0 and ready and not await causes_open(context, tasks):
        begun += [task for task in ready[:free] if await _lane_begin(context, task)]
    return begun


async def _lane_begin(context: RunContext, task: TaskProgress) -> bool:
    """Have the task run in a lane of its own, from where the work stands; False where it may no longer start."""
    begun = {"parent": await head_commit(context), "lane": lane_name(key=task.key, task_id=task.id)}
    # Its lane isn't there yet, so nothing else names the task in it.
    phase = {"phase": "researching" if is_reading(task) else "coding", "task": str(task.id)}
    try:
        await context.ledger.effect_apply(
            f"begin:{task.id}",
            partial(task_begin, task_id=task.id, session_id=context.facts.session_id),
            Event("PhaseChanged", phase),
            Event("TaskStarted", {"task": str(task.id), "title": task.title, "attempt": 1}),
            result=begun,
        )
    except (Conflict, NotFound):
        # A person has changed the plan a moment ago; where nothing else can start either, that ends the lanes.
        return False
    kill_point("lane.begun")
    return True


async def _lane_work(context: RunContext, crew: Crew, task: TaskProgress) -> None:
    """Carry one task out, from where its rows say it is to its end."""
    ledger, facts = context.ledger, context.facts
    begun = await ledger.effect_find(f"begin:{task.id}")
    assert begun is not None
    lane = Lane(task.id, begun["lane"], begun["parent"], crew)
    last = await ledger.database.run_in_thread(snapshot_last, facts.session_id, lane=lane.name)
    kept = Snapshot(last.tree, last.head) if last else Snapshot(lane.start, lane.start)
    branch = lane_branch(branch=facts.branch, lane=lane.name)
    site = context.site.beside(lane=lane.name, branch=branch, start=lane.start, kept=kept.tree)
    own = replace(context, site=site, lane=lane)
    try:
        await _lane_open(own, lane, kept)
        state = {"task_id": str(task.id), "attempt": await attempt_of(own, task), "ended": False}
        await context.lane_graph.ainvoke(state, {"recursion_limit": _STEPS}, context=own)
    finally:
        await uninterrupted(site.close())
    await ledger.database.run_in_thread(_lane_clear, context, lane.name)


async def _lane_open(context: RunContext, lane: Lane, kept: Snapshot) -> None:
    """The lane's files and branch as its rows have them: where it begins, and where a rewind has taken it back."""
    ledger, rewinds = context.ledger, context.facts.rewinds
    placed, restored = f"placed:{lane.task_id}", f"restored:{lane.task_id}@{rewinds}"
    is_new = await ledger.effect_find(placed) is None
    is_due = is_new or (rewinds > 0 and await ledger.effect_find(restored) is None)
    site = context.site
    if is_due and not (await site.worktree_is_fresh() and await site.branch_tip() == kept.head == kept.tree):
        # Files of a lane of this name that was taken back may lie there.
        await site.restore(tree=kept.tree or kept.head, head=kept.head)
    await site.environment_apply(untouched=is_due)
    if is_due:
        async with ledger.transaction() as connection:
            if is_new:
                await ledger.effect_insert(connection, placed, {"tip": lane.start})
                await ledger.snapshot_insert(connection, site.kept_as(lane.start))
            if rewinds:
                await ledger.effect_insert(connection, restored, {})


def _lane_clear(context: RunContext, name: str) -> None:
    # While its checkout stands, whoever comes after this worker finds that there is something to clear.
    lanes_files_forget(session_id=context.facts.session_id, lanes=[name])
    _checkout_clear(context, name)


def _checkout_clear(context: RunContext, name: str) -> None:
    facts = context.facts
    lane_clear(project_id=facts.project_id, session_id=facts.session_id, branch=facts.branch, lane=name)


def _lanes_sweep(context: RunContext) -> None:
    """Remove the checkouts of lanes that are over, and what the index has of them; none is under way."""
    session_id = context.facts.session_id
    lanes_files_forget(session_id=session_id, lanes=lanes_opened(session_id))
    for name in lanes_list(session_id=session_id):
        _checkout_clear(context, name)
