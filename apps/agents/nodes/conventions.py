"""The project's own rules in a conversation: the root's in its brief, a folder's when a call first touches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage

from apps.agents.nodes.context import RunContext
from apps.agents.services.rules import FOLDER_NOTE, ROOT_NOTE, paths_of, rules_text

#: Folders whose rules come with one observation.
_AT_ONCE = 3


async def rules_brief(context: RunContext) -> list[str]:
    """What the files at the root say, as a part of a brief; nothing where there are none."""
    rules = await context.rules()
    files = await context.ledger.database.run_in_thread(rules.root)
    text = rules_text(files, note=ROOT_NOTE, salt=str(context.facts.session_id))
    return [text] if text else []


async def folder_rules(
    context: RunContext, transcript: Sequence[BaseMessage], arguments: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """The rules of folders that a call touches and that weren't shown in this conversation, and those folders.

    What was shown is told by the results themselves (``artifact``), so it holds over restarts, and no file can claim
    that it was.
    """
    rules = await context.rules()
    if not rules.folders:
        return "", []
    touched = [folder for path in paths_of(arguments) for folder in rules.folders_of(path.removeprefix("/workspace/"))]
    shown = {
        folder
        for message in transcript
        if isinstance(message, ToolMessage) and isinstance(message.artifact, Mapping)
        for folder in message.artifact.get("rules", ())
    }
    new = [folder for folder in dict.fromkeys(touched) if folder not in shown][:_AT_ONCE]
    parts = []
    for folder in new:
        files = await context.ledger.database.run_in_thread(rules.folder, folder)
        note = FOLDER_NOTE.format(folder=folder)
        parts.append(rules_text(files, note=note, salt=str(context.facts.session_id)))
    return "\n\n".join(part for part in parts if part), new
