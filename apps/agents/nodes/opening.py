"""How the conversation of every agent begins: its role's prompt, what holds for all of them, and then its brief.

In this order, from what changes least to what changes most, since vendors keep the beginnings of what they have read:
the prompt (with the tools) is the same in every session, people's instructions in every one of a project and a person,
the conventions in all conversations of a session. An opening is written once, and no compaction leaves any of it out.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from apps.agents.nodes.context import RunContext
from apps.agents.nodes.conventions import rules_brief
from apps.agents.prompts import prompt_read
from apps.agents.services.instructions import instructions_change, instructions_text
from apps.agents.services.server_words import standing_digest, standing_set


async def conversation_opening(context: RunContext, *, role: str, brief: HumanMessage) -> list[BaseMessage]:
    """The messages that a conversation of the role is opened with."""
    instructions = await context.instructions()
    salt, own = str(context.facts.project_id), context.profile(role).instructions.strip()
    parts = [instructions_text(instructions, salt=salt, role=role, own=own), *await rules_brief(context)]
    text = "\n\n".join(part for part in parts if part)
    if text:
        brief = standing_set(brief, text, digest=instructions.digest)
    return [SystemMessage(prompt_read(context.profile(role).prompt)), brief]


async def instructions_renew(
    context: RunContext, transcript: Sequence[BaseMessage], message: HumanMessage, *, role: str
) -> HumanMessage:
    """The message by which a conversation goes on; people's instructions come with it where they aren't its own."""
    instructions = await context.instructions()
    told = next((told for said in reversed(transcript) if (told := standing_digest(said)) is not None), "")
    if told == instructions.digest:
        return message
    salt, own = str(context.facts.project_id), context.profile(role).instructions.strip()
    text = instructions_change(instructions, salt=salt, role=role, own=own)
    return standing_set(message, text, digest=instructions.digest)
