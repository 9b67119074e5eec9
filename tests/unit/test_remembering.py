"""What an agent looks up in its own conversation, with patterns that a model may write."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from apps.agents.tools.base import Observation, ToolContext
from apps.agents.tools.remembering import MATCHES, SearchConversationArguments, search_conversation
from apps.projects.workspace import WorkspaceError

SAID = [
    SystemMessage("secret rules"),
    HumanMessage("the goal"),
    AIMessage("", tool_calls=[{"type": "tool_call", "id": "1", "name": "read_file", "args": {"path": "src/a.py"}}]),
    ToolMessage("def one():\n    return 1\n" + "a" * 5_000, tool_call_id="1", name="read_file"),
    ToolMessage("3 (result of read_file): def one():", tool_call_id="2", name="search_conversation"),
]


def look(said: list[Any] | None = None, **arguments: Any) -> Observation:
    context = cast(ToolContext, SimpleNamespace(conversation=said or SAID, observation_limit=1_500))
    return asyncio.run(search_conversation(context, SearchConversationArguments(**arguments)))


def test_lines_are_found_with_the_number_of_their_message() -> None:
    assert look(pattern="DEF ONE").text == "3 (result of read_file): def one():"
    assert look(pattern=r"src/\w\.py").text.startswith("2 (you): read_file ")
    assert look(pattern="nowhere").text == "no match"


def test_a_message_is_read_in_pieces() -> None:
    first = look(message=3)
    assert "characters 0 to 1000 of 5024; go on with offset 1000" in first.text
    assert look(message=3, offset=5_000).text.endswith("a" * 24)


def test_the_newest_matches_come_first_in_pages() -> None:
    said = [SAID[0], *(HumanMessage(f"word {number}") for number in range(1, 101))]
    page = look(said, pattern="word").text.splitlines()
    assert page[0].startswith("100 (user)") and f"offset {MATCHES}" in page[-1]
    assert look(said, pattern="word", offset=80).text.splitlines()[-1].endswith("word 1")


@pytest.mark.parametrize(
    "arguments",
    [{}, {"pattern": "("}, {"message": 0}, {"message": 99}, {"message": 1, "offset": 50}, {"pattern": "(a+a+)+[^a]"}],
)
def test_what_cannot_be_looked_up_is_said(arguments: dict[str, Any]) -> None:
    """The last one would try for longer than the universe is old; the instructions are nobody's to read."""
    with pytest.raises(WorkspaceError):
        look(**arguments)


@pytest.mark.parametrize("pattern", ["(" * 450 + ")" * 450, "((a{1000}){1000}){1000}"], ids=["deep", "large"])
def test_a_pattern_that_cannot_be_compiled_is_said(pattern: str) -> None:
    with pytest.raises(WorkspaceError):
        look(pattern=pattern)
