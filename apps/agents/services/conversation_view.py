"""What of a conversation goes to a model: a function of its messages and its last compaction.

The rows stay whole. A compaction leaves out messages up to one, for which a summary stands, clears the outputs of tools
up to a later one, and may shorten those after it. What stays in any case, word for word: the opening (the system
message and the brief, with the goal) and the last things that people asked for. A reply and the results of its calls
are left out together or not at all, so that every vendor can read what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from apps.agents.services.images import REFERENCE

#: Outputs that are shorter, in characters, stay when the others are cleared.
SHORT_OUTPUT = 300


@dataclass(frozen=True)
class Cut:
    """What is left out. Positions are those of the rows."""

    #: Messages before this one are left out, but for the opening and ``kept``.
    dropped_to: int = 0
    kept: tuple[int, ...] = ()
    #: The outputs of tools before this one are cleared.
    cleared_to: int = 0
    #: Characters of each output after that, up to ``position``; 0: all of them.
    output_limit: int = 0
    #: Stands for what is dropped; all of the text that is shown.
    summary: str = ""
    #: How many messages there were when the cut was made.
    position: int = 0


@dataclass(frozen=True)
class Compaction:
    """A cut as its row has it."""

    sequence: int
    cut: Cut
    bytes_per_token: float


def opening_length(transcript: Sequence[BaseMessage]) -> int:
    """How many messages there are before the model's first reply."""
    return next((index for index, said in enumerate(transcript) if isinstance(said, AIMessage)), len(transcript))


def boundaries(transcript: Sequence[BaseMessage], start: int) -> list[int]:
    """Where a conversation may be cut from ``start`` on: before a reply or a word, never before a call's result."""
    return [index for index, said in enumerate(transcript) if index >= start and not isinstance(said, ToolMessage)] + [
        len(transcript)
    ]


def view_of(transcript: Sequence[BaseMessage], cut: Cut | None) -> list[BaseMessage]:
    """The conversation as it is sent."""
    if cut is None:
        return list(transcript)
    body = [message_cut(message, index, cut) for index, message in enumerate(transcript) if index >= cut.dropped_to]
    opening = min(opening_length(transcript), cut.dropped_to)
    if cut.dropped_to <= opening:
        return [*transcript[:opening], *body]
    told = [HumanMessage(cut.summary), *(transcript[index] for index in cut.kept)]
    head = list(transcript[:opening])
    while body and isinstance(body[0], HumanMessage):
        told.append(body.pop(0))
    if head and isinstance(head[-1], HumanMessage):
        told.insert(0, head.pop())
    return [*head, _as_one(told), *body]


def message_cut(message: BaseMessage, index: int, cut: Cut) -> BaseMessage:
    """A message of the body, its output cleared or shortened where the cut says so."""
    if not is_output(message) or index >= cut.position:
        return message
    assert isinstance(message, ToolMessage)
    length = content_length(message)
    if index < cut.cleared_to:
        if length <= SHORT_OUTPUT:
            return message
        said = f"[{length} characters left out to save room: search_conversation with message {index} reads them]"
    elif cut.output_limit and length > cut.output_limit:
        text = str(message.text)
        head, tail = cut.output_limit * 2 // 3, cut.output_limit // 3
        said = (
            f"{text[:head]}\n[... the middle left out to save room: search_conversation with message {index} reads"
            f" it ...]\n{text[-tail:]}"
        )
    else:
        return message
    # Without its artifact: rules that were shown with it count as not shown.
    return ToolMessage(said, tool_call_id=message.tool_call_id, name=message.name, status=message.status)


def is_output(message: BaseMessage) -> bool:
    """Whether a message is what a tool said; a person's answer is none."""
    return isinstance(message, ToolMessage) and message.name != "ask_user"


def content_length(message: BaseMessage) -> int:
    """Characters of what a message says; an image counts as a long one."""
    if isinstance(message.content, str):
        return len(message.content)
    images = sum(isinstance(block, dict) and block.get("type") == REFERENCE for block in message.content)
    return int(len(str(message.text)) + images * 10_000)


def _as_one(told: Sequence[BaseMessage]) -> HumanMessage:
    """One message with each of these in it, since not every vendor takes several in a row."""
    blocks: list[str | dict[str, Any]] = []
    for message in told:
        if isinstance(message.content, str):
            blocks.append({"type": "text", "text": message.content})
        else:
            blocks += message.content
    return HumanMessage(blocks)
