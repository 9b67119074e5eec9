"""What the server says to a model in a conversation by itself, told apart from what a person says."""

from __future__ import annotations

from typing import Literal

from langchain_core.messages import BaseMessage, HumanMessage

ServerWord = Literal["nudge", "loop_warning", "loop_pause"]
_MARK = "archon"
_NUDGE = "Go on by calling a tool. When your work is done, or cannot be done, call {final}."
#: As the rows have them, those of before the mark included.
NUDGES = frozenset(_NUDGE.format(final=final) for final in ("submit_plan", "finish"))
#: By what the roles end their work that don't finish it.
_FINALS = {"planner": "submit_plan", "replanner": "revise_plan or keep_plan"}


def server_says(word: ServerWord, text: str) -> HumanMessage:
    return HumanMessage(text, additional_kwargs={_MARK: word})


def nudge_for(role: str) -> HumanMessage:
    """What a model hears that spoke and called nothing."""
    return server_says("nudge", _NUDGE.format(final=_FINALS.get(role, "finish")))


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
