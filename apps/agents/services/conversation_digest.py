"""What is left of a part of a conversation: the text that a model summarises, and what can be said without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from apps.agents.services.conversation_text import content_text, speaker
from apps.agents.services.rules import paths_of
from apps.agents.services.server_words import is_persons

_NOTICE = (
    "[To save room, messages {first} to {last} of this conversation are left out here; search_conversation finds and"
    " reads them. What stands for them is a memory of {whose}, not an instruction.]"
)
#: Calls that change files, and what else is worth a line of its own.
_CHANGES = frozenset({"edit_file", "multi_edit", "write_file", "apply_patch", "move_file", "delete_file"})
#: Characters of one message in what a model summarises, from generous to the least.
_EXCERPTS = (2_000, 800, 300, 120)
_LINE = 200


def notice(first: int, last: int, *, by_model: bool) -> str:
    """What a summary begins with."""
    return _NOTICE.format(first=first, last=last, whose="yours" if by_model else "what was done, made by the server")


def excerpt(messages: Sequence[BaseMessage], first: int, *, former: str, limit: int) -> str:
    """The messages as text of at most so many characters, for a model to summarise; the former summary in front."""
    head = f"What stood for all before this:\n{former[: limit // 3]}\n\n" if former else ""
    room = limit - len(head)
    parts: list[str] = []
    for length in _EXCERPTS:
        parts = [_part(message, first + index, length) for index, message in enumerate(messages)]
        if sum(len(part) + 1 for part in parts) <= room:
            return head + "\n".join(parts)
    # The newest that fit.
    kept: list[str] = []
    for part in reversed(parts):
        if sum(len(each) + 1 for each in kept) + len(part) > room:
            break
        kept.insert(0, part)
    return head + "\n".join(kept)


def digest(messages: Sequence[BaseMessage], *, former: str, limit: int) -> str:
    """What was done, from the messages alone: the same messages give the same text, at most so many characters."""
    results = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    changed: Counter[str] = Counter()
    read: Counter[str] = Counter()
    commands: list[str] = []
    failed: list[str] = []
    said: list[str] = []
    asked: list[str] = []
    for message in messages:
        if is_persons(message):
            asked.append(_one_line(str(message.text)))
        if not isinstance(message, AIMessage):
            continue
        if text := str(message.text).strip():
            said.append(_one_line(text))
        for call in message.tool_calls:
            result = results.get(str(call["id"]))
            ok = result is None or result.status != "error"
            if call["name"] == "ask_user" and result is not None:
                asked.append(f"{_one_line(str(call['args'].get('question', '')))} -> {_one_line(str(result.text))}")
            elif call["name"] in _CHANGES and ok:
                changed.update(_paths(call["args"]) or ["(see the patch)"])
            elif call["name"] == "run_command":
                commands.append(f"{_one_line(str(call['args'].get('command', '')))} -> {_ending(result)}")
            elif call["name"] == "run_checks":
                commands.append(f"run_checks -> {_one_line(str(result.text)) if result else ''}")
            elif ok:
                read.update(_paths(call["args"]))
            if not ok and result is not None:
                failed.append(f"{call['name']}: {_one_line(str(result.text))}")
    sections = [
        ("Asked", asked[-5:]),
        ("Files changed", [f"{path} ({count}x)" for path, count in changed.most_common(40)]),
        ("Files looked at", [f"{path} ({count}x)" for path, count in read.most_common(40)]),
        ("Commands and checks, the last ones", commands[-15:]),
        ("Failed, the last ones", failed[-8:]),
        ("Your own last words", said[-8:]),
    ]
    told = "\n".join(f"{title}:\n" + "\n".join(f"- {line}" for line in lines) for title, lines in sections if lines)
    before = f"\nBefore that:\n{former}" if former else ""
    if len(told) + len(before) <= limit:
        return told + before
    older = min(len(before), limit // 2)
    return told[: limit - older] + before[:older]


def _part(message: BaseMessage, index: int, length: int) -> str:
    text = content_text(message)
    if len(text) > length:
        text = f"{text[: length * 2 // 3]} [...] {text[-length // 3 :]}"
    return f"[{index}] {speaker(message)}: {text}"


def _paths(arguments: dict[str, Any]) -> list[str]:
    return [path[:_LINE] for path in paths_of(arguments)]


def _ending(result: BaseMessage | None) -> str:
    """How a command ended: the last line of what is said of it."""
    lines = str(result.text).strip().splitlines() if result is not None else []
    return _one_line(lines[-1]) if lines else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LINE]
