"""What a task's work stands on, where tasks are worked on side by side: its commit's parent, and what is merged."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from apps.agents.nodes.context import RunContext
from apps.agents.nodes.index_telling import index_tell
from apps.agents.services.ledger_records import Snapshot
from apps.projects.repository_rebase import marks_left


@dataclass(frozen=True)
class Ground:
    """Where an attempt at a task starts."""

    #: The commit that the task's own is made on, and where its branch is until then.
    parent: str
    replaces: str
    #: How often its work could not be merged before this attempt.
    rounds: int = 0
    #: Of the last of these: the names in the marks that git left in these files.
    marks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


async def ground_of(context: RunContext, task_id: uuid.UUID, attempt: int) -> Ground:
    """Where this attempt starts: where the task began, or where its lane was put when its work could not be merged."""
    ledger = context.ledger
    begun = await ledger.effect_find(f"begin:{task_id}")
    assert begun is not None
    former = await ledger.effect_find(f"verify:{task_id}:{attempt - 1}")
    parent = str(begun["parent"])
    replaces = str(former["commit"]) if former else parent
    if not begun.get("lane"):
        return Ground(parent, replaces)
    rounds = [each for _, each in await ledger.effect_list(f"merge:{task_id}:") if each["attempt"] < attempt]
    if not rounds:
        return Ground(parent, replaces)
    last = rounds[-1]
    onto = str(last["onto"])
    if last["attempt"] == attempt - 1:
        replaces = onto
    return Ground(onto, replaces, len(rounds), tuple(last["marks"]), tuple(last["files"]))


async def marks_told(context: RunContext, ground: Ground, commit: str) -> str:
    """Why a commit can't stand in which the marks of a conflict are left; empty: it has none."""
    if not ground.marks:
        return ""
    left = await context.ledger.database.run_in_thread(
        marks_left,
        project_id=context.facts.project_id, commit=commit, marks=ground.marks, files=ground.files,
    )  # fmt: skip
    return f"the marks of the conflict are still in {', '.join(left[:10])}" if left else ""


async def branch_take(context: RunContext) -> None:
    """Have the session's own worktree hold what lanes have merged, before anything else uses it."""
    # What an agent that only reads came to left the branch where it was.
    accepted = [each for each in await context.ledger.effect_list("accept:") if not each[1].get("reading")]
    if not accepted or not accepted[-1][1].get("lane"):
        return
    commit = str(accepted[-1][1]["commit"])
    if await context.ledger.effect_find(f"taken:{commit}") is None:
        await _take(context, commit, key=f"taken:{commit}")


async def branch_return(context: RunContext, head: str) -> None:
    """The same for a session that ended in the middle of lanes: a merge that no row tells of is undone.

    ``head``: the commit that the session's row says it is at.
    """
    begun = await context.ledger.effect_list("begin:")
    if not begun or not begun[-1][1].get("lane"):
        return
    await branch_take(context)
    if await context.site.branch_tip() != head:
        await _take(context, head, key=context.facts.turn_key(f"taken:{head}"))


async def _take(context: RunContext, commit: str, *, key: str) -> None:
    await context.site.branch_rebased(commit=commit, expected=await context.site.branch_tip())
    await context.ledger.effect_record(key, result={}, snapshot=Snapshot(commit, commit))
    await index_tell(context, await context.site.tree(commit))
