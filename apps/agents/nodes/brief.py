"""What a conversation opens with: the goal and what can be known without a model."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import HumanMessage

from apps.agents.nodes.baseline import baseline_open, checks_observe
from apps.agents.nodes.context import RunContext
from apps.agents.nodes.located import located_brief
from apps.agents.nodes.materials import brief_message, materials_read

BRIEF_FILES = 300


async def goal_brief(context: RunContext, *, further: Sequence[str] = ()) -> HumanMessage:
    """The goal, the files and what the checks say now: what every session starts from."""
    baseline = await baseline_open(context)
    workspace = await context.site.workspace()
    listing = await workspace.file_list(".", depth=4, limit=BRIEF_FILES)
    files = "\n".join(entry.path for entry in listing.entries if entry.kind != "directory")
    more = "\n[more files left out]" if listing.truncated else ""
    parts = [
        f"Goal:\n{context.facts.goal}",
        f"Files:\n{files}{more}",
        *await located_brief(context, text=context.facts.goal, key=context.facts.turn_key("located")),
        *context.site.notes,
        f"Checks before any change:\n{checks_observe(baseline.before).text}",
        *further,
    ]
    return brief_message(parts, await materials_read(context, turn=0))


async def task_brief(
    context: RunContext, *, key: str, title: str, instructions: str, further: Sequence[str] = ()
) -> HumanMessage:
    """A task for a coder, with the goal that it is a part of; ``key`` names it among the session's tasks."""
    baseline = await baseline_open(context)
    parts = [
        f"Task: {title}",
        instructions,
        *await located_brief(context, text=f"{title}\n{instructions}", key=f"located:{key}"),
        f"It is part of this goal:\n{context.facts.goal}",
        *context.site.notes,
        f"Checks before any change:\n{checks_observe(baseline.before).text}",
        *further,
    ]
    return brief_message(parts, await materials_read(context, turn=0))
