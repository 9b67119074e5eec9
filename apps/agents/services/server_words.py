"""What the server says to a model in a conversation by itself, told apart from what a person says."""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.messages import BaseMessage, HumanMessage

ServerWord = Literal["nudge", "loop_warning", "loop_pause", "limit_pause"]
_MARK = "archon"
#: On a message whose first block is what holds for every agent; its value tells whose instructions are in it.
_STANDING = "standing"
_NUDGE = "Go on by calling a tool. When your work is done, or cannot be done, call {final}."
#: As the rows have them, those of before the mark included.
NUDGES = frozenset(_NUDGE.format(final=final) for final in ("submit_plan", "finish"))
#: By what the roles end their work that don't finish it.
_FINALS = {"planner": "submit_plan", "replanner": "revise_plan or keep_plan"}


def server_says(word: ServerWord, text: str) -> HumanMessage:
    return HumanMessage(text, additional_kwargs={_MARK: word})


def nudge_for(role: str, *, reviews: bool = False) -> HumanMessage:
    """What a model hears that spoke and called nothing; ``reviews``: a change of the session's."""
    return server_says("nudge", _NUDGE.format(final="submit_review" if reviews else _FINALS.get(role, "finish")))


def is_persons(message: BaseMessage) -> bool:
    """Whether a person says the message: the goal, an answer, or what they said meanwhile."""
    return isinstance(message, HumanMessage) and server_word(message) is None


def server_word(message: BaseMessage) -> ServerWord | None:
    """What the server said with the message; None: it is not the server's own."""
    if not isinstance(message, HumanMessage):
        return None
    word: ServerWord | None = message.additional_kwargs.get(_MARK)
    if word is None and isinstance(message.content, str) and message.content in NUDGES:
        return "nudge"
    return word


def standing_set(message: HumanMessage, text: str, *, digest: str) -> HumanMessage:
    """The message with a first block of what holds for every agent; ``digest`` is that of people's instructions."""
    said = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content
    blocks: list[str | dict[Any, Any]] = [{"type": "text", "text": f"{text}\n"}, *said]
    return HumanMessage(blocks, additional_kwargs={**message.additional_kwargs, _STANDING: digest})


def standing_digest(message: BaseMessage) -> str | None:
    """The digest of the instructions that the message brings (empty: none); None: it brings nothing of the kind."""
    digest = message.additional_kwargs.get(_STANDING)
    return None if digest is None else str(digest)


def standing_left_out(message: BaseMessage) -> BaseMessage:
    """The message without that block."""
    if standing_digest(message) is None or not isinstance(message.content, list):
        return message
    return HumanMessage(message.content[1:])
