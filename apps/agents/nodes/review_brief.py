"""What a reviewer is told of the commit that it reviews: the task, what the checks said, earlier findings, the diff."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import HumanMessage

from apps.agents.nodes.context import RunContext
from apps.agents.nodes.opening import conversation_opening
from apps.agents.services.reviews import Finding, ReviewScope, findings_open, findings_told, review_key, reviewing_key
from apps.agents.tools.base import text_cut
from apps.agents.types import Event
from apps.core.storable import text_storable
from apps.planning.types import TaskProgress
from apps.projects.diff_lines import diff_numbered, lines_changed

#: How much of the diff a reviewer is shown at once, in observations; it can look at the rest.
_DIFF_OBSERVATIONS = 3


async def review_open(
    context: RunContext,
    task: TaskProgress,
    verified: Mapping[str, Any],
    parent: str,
    *,
    attempt: int,
    number: int,
    name: str,
) -> None:
    """Open the reviewer's conversation on the commit, and note what it is about."""
    commit = str(verified["commit"])
    diff = await context.site.changed_between(parent, commit)
    former = await review_before(context, task.id, number)
    left = tuple(findings_open(map(Finding.read, former["findings"]))) if former else ()
    scope = ReviewScope(task.id, number, attempt, commit, lines_changed(diff), left)
    limit = _DIFF_OBSERVATIONS * await context.observation_limit("reviewer")
    since = ""
    if former and former["commit"] != commit:
        since = diff_numbered(await context.site.changed_between(former["commit"], commit), limit=limit // 3)
    shown = diff_numbered(diff, limit=limit)
    checks = "\n".join(f"- {_check_told(each)}" for each in verified["acceptance"])
    parts = [
        f"Review the change of this task: {task.title}",
        task.instructions,
        f"It is part of this goal:\n{context.facts.goal}",
        *context.site.notes,
        f"What shows that it is done, by the server's word on this commit:\n{checks}" if checks else "",
        f"What the server's checks said on this commit:\n{text_cut(verified['observation'], 4_000)}",
        f"What the coder says of it:\n{text_cut(verified['summary'], 4_000)}" if verified["summary"] else "",
        f"Found in earlier reviews of it, and open:\n{findings_told(left)}" if left else "",
        f"What has changed since the last review:\n{since}" if since else "",
        f"The change, {commit[:12]} against {parent[:12]}; numbers are lines of the files as they are now:\n{shown}",
        "Hand your review over with submit_review.",
    ]
    brief = HumanMessage(text_storable("\n\n".join(part for part in parts if part)))
    execution_id = await context.ledger.execution_open(
        role="reviewer",
        task_id=task.id,
        messages=await conversation_opening(context, role="reviewer", brief=brief),
        name=name,
    )
    started = {"task": str(task.id), "round": number, "execution": str(execution_id), "commit": commit}
    await context.ledger.effect_record(
        reviewing_key(execution_id),
        Event("PhaseChanged", {"phase": "reviewing"}),
        Event("ReviewStarted", started),
        result=scope.as_dict(),
    )


def _check_told(check: Mapping[str, Any]) -> str:
    named = f"{check['name']} (`{check['command']}`)" if check["name"] else f"`{check['command']}`"
    return f"{named}: {'passed' if check['passed'] else 'failed'}"


async def review_before(context: RunContext, task_id: uuid.UUID, number: int) -> Mapping[str, Any] | None:
    """What the review before this one came to; None: it is the first."""
    return await context.ledger.effect_find(review_key(task_id, number - 1))
