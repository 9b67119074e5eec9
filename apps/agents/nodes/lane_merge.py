"""Bringing a lane's work onto the session's branch: one at a time, and judged there before the branch moves.

Where nothing else was merged since the lane began, its own commit is what was judged, and the branch goes on to it.
Otherwise what it changes is made anew on the branch's last commit, as one commit, and checked. What doesn't fit goes
back to the task's agent, with the merged files in its worktree.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.lane_ground import Ground, ground_of
from apps.agents.nodes.task_rows import NOT_MERGED, head_commit, is_reading, task_load, tasks_load
from apps.agents.nodes.task_verdict import is_last, work_judge
from apps.agents.nodes.tasks import task_accept, task_block, task_ended, task_give_up
from apps.agents.services.ledger_records import Snapshot
from apps.agents.tools.base import text_cut
from apps.agents.types import Event
from apps.core.kill_points import kill_point
from apps.planning.services import task_update_status
from apps.planning.types import TaskProgress, TaskStatus
from apps.projects.git import path_display
from apps.projects.repository import commit_resolve
from apps.projects.repository_rebase import Carried, branch_move, commit_carry, commits_between
from apps.projects.worktree_lanes import commit_keep
from apps.projects.worktree_snapshots import state_keep

#: How often a task's work may fail to be merged before the task is given up.
MERGE_ROUNDS = 5
_FILES_TOLD = 20
_CONFLICT = (
    "Your work stands by itself, but it can't be merged: other tasks were merged meanwhile, and they change the same"
    " places. Your files are now those of the branch with your change merged in, as far as git could do that."
)
_MARKS = (
    "Where both change the same lines git has left marks: between <<<<<<< {ours} and ======= is what the branch has,"
    " between ======= and >>>>>>> {theirs} what you wrote. Where both can't be in one file (a binary file, a link, a"
    " file and a folder) a name that ends in ~{theirs} has what you wrote, one in ~{ours} what the branch has: make the"
    " file what it should be, and remove that name. A file without marks was removed, renamed or made by one of you."
)
_FAILING = (
    "Your work stands by itself, but not together with that of other tasks that were merged meanwhile. Your files are"
    " now those of the branch with your change merged in; the server ran the checks on that."
)
_GO_ON = "Go on with the same task: make the files what they should be with both, and finish again."


@dataclass(frozen=True)
class _Merge:
    """What a lane's work comes to on the session's branch."""

    #: The commit that the branch is to be at.
    commit: str
    known: Mapping[str, Any]
    fast_forward: bool
    #: What its checks said, where they were run on it.
    checked: Event | None = None


@dataclass(frozen=True)
class _Misfit:
    """Why it doesn't fit, and how the files are then."""

    tree: str
    onto: str
    #: The conflict; or what its checks said, and their verdict.
    carried: Carried | None = None
    known: Mapping[str, Any] | None = None
    checked: Event | None = None


async def lane_merge(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Merge what the task has done, if it fits; otherwise hand it back to its agent, so many times."""
    context = runtime.context
    lane = context.lane
    assert lane is not None
    task_id, attempt = lane.task_id, state["attempt"]
    async with lane.crew.merging:
        # The session may have come to stop while another lane merged.
        lane.crew.step_begin()
        task = await task_load(context, task_id)
        if is_reading(task):
            # There is nothing to merge.
            await task_accept(state, runtime)
            return {"verdict": "merged"}
        verified = await context.ledger.effect_find(f"verify:{task_id}:{attempt}")
        assert verified is not None
        ground = await ground_of(context, task_id, attempt)
        found = await _merge(context, task, verified, ground)
        if isinstance(found, _Merge):
            await _accept(context, task, attempt, found, own=verified["commit"])
            return {"verdict": "merged"}
        if ground.rounds >= MERGE_ROUNDS:
            return {"verdict": "failed"}
        await _hand_back(context, state, task, found, ground, own=verified["commit"])
        return {
            "verdict": "again",
            "attempt": attempt + 1,
            "execution_id": state["work_id"],
            "role": task.agent_type.value,
            "ended": False,
            "round": 0,
        }


def route_after_merge(state: SessionState) -> str:
    return state["verdict"]


async def lane_block(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """The task is left for something that has to change first: what earlier attempts have committed is kept."""
    context = runtime.context
    for _, verified in await context.ledger.effect_list(f"verify:{state['task_id']}:"):
        await _keep(context, verified["commit"])
    return await task_block(state, runtime)


async def lane_give_up(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """The task failed: what it has committed is kept, and others go on."""
    context = runtime.context
    task_id, attempt = uuid.UUID(state["task_id"]), state["attempt"]
    verified = await context.ledger.effect_find(f"verify:{task_id}:{attempt}")
    assert verified is not None
    await _keep(context, verified["commit"])
    if verified["acceptable"]:
        reason = f"it could not be merged with what other tasks have done, {MERGE_ROUNDS + 1} times"
        given_up = task_ended(task_id, TaskStatus.FAILED, attempt, verified)
        failed = Event("TaskFailed", {"task": str(task_id), "reason": reason})
        await context.ledger.effect_apply(f"give-up:{task_id}", given_up, failed)
    else:
        await task_give_up(state, runtime)
    over = context.site.kept_as(verified["commit"])
    await context.ledger.effect_record(f"over:{task_id}", result={}, snapshot=over)
    return {}


async def _merge(
    context: RunContext, task: TaskProgress, verified: Mapping[str, Any], ground: Ground
) -> _Merge | _Misfit:
    onto, commit = await head_commit(context), str(verified["commit"])
    if onto == ground.parent:
        known = {name: value for name, value in verified.items() if name != "lane"}
        if verified["outcome"] != "failing" or not await is_last(context, task):
            return _Merge(commit, known, fast_forward=True)
        # It was judged as one of several that were under way, and is the last: what failed before has to pass now.
        return _Misfit(await context.site.tree(commit), onto, known=known)
    carried = Carried(onto, await context.site.tree(onto))
    if commit != ground.parent:
        carried = await context.ledger.database.run_in_thread(
            commit_carry,
            project_id=context.facts.project_id, commit=commit, base=ground.parent, onto=onto,
        )  # fmt: skip
    if carried.commit is None:
        return _Misfit(carried.tree, onto, carried)
    kill_point("lane.made")
    judged = await work_judge(context, task, carried.commit, list(verified["files"]), apart=True)
    known = {**judged.known, "hopeless": verified["hopeless"], "summary": verified["summary"]}
    if not known["acceptable"]:
        return _Misfit(carried.tree, onto, known=known, checked=judged.checked)
    return _Merge(carried.commit, known, fast_forward=False, checked=judged.checked)


async def _accept(context: RunContext, task: TaskProgress, attempt: int, merge: _Merge, *, own: str) -> None:
    """Move the session's branch, and have the task be done with the commit that it is at then."""
    lane = context.lane
    assert lane is not None
    if own != merge.commit:
        await _keep(context, own)
    await context.ledger.database.run_in_thread(_branch_move, context, merge.commit)
    kill_point("lane.merged")
    told = str(task.id)
    events = [
        *([merge.checked] if merge.checked else []),
        Event("TaskMerged", {"task": told, "commit": merge.commit, "fast_forward": merge.fast_forward}),
        Event("TaskCommitted", {"task": told, "commit": merge.commit, "files": merge.known["files"]}),
    ]
    known = {**merge.known, "commit": merge.commit, "fast_forward": merge.fast_forward}
    await context.ledger.effect_apply(
        f"accept:{task.id}",
        task_ended(task.id, TaskStatus.DONE, attempt, known),
        *events,
        result={"commit": merge.commit, "lane": lane.name},
        further={f"merged:{task.id}": known},
        # The session's own worktree follows before anything else uses it.
        snapshot=Snapshot(merge.commit, merge.commit),
        head_commit=merge.commit,
        checks=known["checks"],
    )
    kill_point("lane.accepted")


def _branch_move(context: RunContext, commit: str) -> None:
    """From wherever it is: a worker that died may have moved it there, or to a merge that no row tells of."""
    facts = context.facts
    tip = commit_resolve(project_id=facts.project_id, revision=facts.branch)
    branch_move(project_id=facts.project_id, branch=facts.branch, commit=commit, expected=tip)


async def _hand_back(
    context: RunContext, state: SessionState, task: TaskProgress, misfit: _Misfit, ground: Ground, *, own: str
) -> None:
    """Put the lane on the branch's last commit, with the merged files, and tell its agent why."""
    assert context.lane is not None
    attempt, execution_id = state["attempt"], uuid.UUID(state["work_id"])
    ledger, lane = context.ledger, context.lane.name
    await _keep(context, own)
    await ledger.database.run_in_thread(
        state_keep,
        project_id=context.facts.project_id, session_id=context.facts.session_id, tree=misfit.tree, lane=lane,
    )  # fmt: skip
    await context.site.restore(tree=misfit.tree, head=misfit.onto)
    kill_point("lane.returned")
    conflict = misfit.carried or Carried(None, misfit.tree)
    files = [path_display(path) for path in conflict.files]
    told = {
        "task": str(task.id),
        "files": files,
        "round": ground.rounds + 1,
        "reasons": list(misfit.known["reasons"]) if misfit.known else list(conflict.said),
    }
    events = [
        *([misfit.checked] if misfit.checked else []),
        Event("MergeConflicted", told),
        Event("TaskStarted", {"task": str(task.id), "title": task.title, "attempt": attempt + 1}),
    ]
    effect = {
        "attempt": attempt,
        "onto": misfit.onto,
        "own": own,
        # Names that no row can hold are not looked for by name.
        "files": files if files == list(conflict.files) else [],
        "marks": list(conflict.marks),
    }
    transcript = await context.transcript(execution_id)
    message = HumanMessage(await _misfit_told(context, task, misfit, files, ground))
    await ledger.fenced(task_update_status, task_id=task.id, status=TaskStatus.RUNNING, attempts=attempt + 1)
    async with ledger.transaction(*events) as connection:
        await ledger.effect_insert(connection, f"merge:{task.id}:{attempt}", effect)
        await ledger.effect_insert(connection, f"retry:{task.id}:{attempt}", {"why": NOT_MERGED})
        await ledger.snapshot_insert(connection, Snapshot(misfit.tree, misfit.onto, lane=lane))
        await ledger.result_set(connection, execution_id, None)
        await ledger.message_insert(connection, execution_id, len(transcript), message)
    context.conversation_forget(execution_id)


async def _misfit_told(
    context: RunContext, task: TaskProgress, misfit: _Misfit, files: list[str], ground: Ground
) -> str:
    """What the agent hears: where it doesn't fit, and what others have done meanwhile."""
    parts = [_FAILING]
    if misfit.carried is not None:
        ours, theirs = misfit.carried.marks or ("", "")
        more = f" and {len(files) - _FILES_TOLD} more" if len(files) > _FILES_TOLD else ""
        said = "\n".join(misfit.carried.said[:_FILES_TOLD])
        parts = [_CONFLICT, f"In conflict: {', '.join(files[:_FILES_TOLD])}{more}\n{said}"]
        parts.append(_MARKS.format(ours=ours, theirs=theirs))
    elif misfit.known is not None:
        parts.append(str(misfit.known["observation"]))
    others = await _others_told(context, task, base=ground.parent, onto=misfit.onto)
    return "\n\n".join([*parts, *([f"What others have done meanwhile:\n{others}"] if others else []), _GO_ON])


async def _others_told(context: RunContext, task: TaskProgress, *, base: str, onto: str) -> str:
    """The tasks that were merged between two commits, with their results and files."""
    ledger = context.ledger
    commits = await ledger.database.run_in_thread(
        commits_between, project_id=context.facts.project_id, base=base, head=onto
    )
    others = [other for other in await tasks_load(context) if other.commit in commits and other.id != task.id]
    merged = dict(await ledger.effects_find([f"merged:{other.id}" for other in others]))
    lines = []
    for other in sorted(others, key=lambda each: commits.index(each.commit)):
        files = list(merged.get(f"merged:{other.id}", {}).get("files", ()))[:_FILES_TOLD]
        named = f" ({', '.join(files)})" if files else ""
        lines.append(f"- {other.title}{named}: {text_cut(other.result, 1000)}")
    return "\n".join(lines)


async def _keep(context: RunContext, commit: str) -> None:
    facts = context.facts
    await context.ledger.database.run_in_thread(
        commit_keep, project_id=facts.project_id, session_id=facts.session_id, commit=commit
    )
