"""Calls that a model wrote as JSON: read whatever surrounds them, and never more than was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from apps.usage.reply import message_out_of_envelope
from integrations.llm_providers.envelope import UNREADABLE, envelope_conversation, envelope_read, envelope_schema

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "description": f"To {name}.", "parameters": {"type": "object"}}}
    for name in ("read", "write")
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["read", "write"]), st.dictionaries(st.text(max_size=8), VALUES)), max_size=3
)
WRAPPINGS = [
    "{}",
    "```json\n{}\n```",
    "Certainly:\n\n{}\n\nThat should do it.",
    "<think>I see {{}} and {{x}}.</think>{}",
]


@given(
    thought=st.text(max_size=60), calls=CALLS, wrapping=st.sampled_from(WRAPPINGS), indent=st.sampled_from([None, 2])
)
def test_what_was_written_is_read(
    thought: str, calls: list[tuple[str, dict[str, Any]]], wrapping: str, indent: int | None
) -> None:
    listed = [{"name": name, "arguments": arguments} for name, arguments in calls]
    document = json.dumps({"thought": thought, "calls": listed}, indent=indent)
    said, read = envelope_read(wrapping.format(document))
    assert [(call.name, call.arguments) for call in read] == [(name, arguments) for name, arguments in calls]
    assert said == thought


@given(text=st.text(max_size=300))
def test_no_text_is_too_odd(text: str) -> None:
    said, read = envelope_read(text)
    assert isinstance(said, str)
    assert all(call.arguments is not None or call.error for call in read)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"thought": "x", "calls": [{"name": "read", "argum', "not one JSON object"),
        ('{"thought": "x", "calls": [{"arguments": {}}]}', "an object with a name"),
        ('{"thought": "x", "calls": ["read"]}', "an object with a name"),
        ('{"thought": "x", "calls": {"name": "read"}}', "not a list"),
        ('{"thought": "x", "calls": [{"name": "read", "arguments": [1]}]}', "not a JSON object"),
        ('{"thought": "x", "calls": [{"name": "read", "arguments": "{oops"}]}', "not valid JSON"),
    ],
)
def test_what_cannot_be_read_is_a_call_that_says_so(text: str, error: str) -> None:
    message = message_out_of_envelope(AIMessage(text))
    assert message.tool_calls == []
    (broken,) = message.invalid_tool_calls
    assert error in str(broken["error"])
    assert broken["id"]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "read", "arguments": {"path": "a"}}',
        '[{"name": "read", "parameters": {"path": "a"}}]',
        '{"calls": [{"name": "read", "arguments": "{\\"path\\": \\"a\\"}"}]}',
    ],
)
def test_usual_ways_to_miss_the_shape_are_understood(text: str) -> None:
    message = message_out_of_envelope(AIMessage(text))
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [("read", {"path": "a"})]


def test_words_alone_call_nothing() -> None:
    message = message_out_of_envelope(AIMessage(' The file has {"x": 1} in it. '))
    assert (message.content, message.tool_calls, message.invalid_tool_calls) == (
        'The file has {"x": 1} in it.',
        [],
        [],
    )


def test_a_conversation_is_told_without_tools() -> None:
    calls = [{"type": "tool_call", "id": str(n), "name": "read", "args": {"n": n}} for n in range(2)]
    conversation: list[BaseMessage] = [
        SystemMessage("You are Archon's coder."),
        HumanMessage("Task: x"),
        AIMessage("Look.", tool_calls=calls),
        ToolMessage("one", tool_call_id="0", name="read"),
        ToolMessage("two", tool_call_id="1", name="read", status="error"),
        HumanMessage("Go on."),
    ]
    told = envelope_conversation(conversation, TOOLS)
    assert [message.type for message in told] == ["system", "human", "ai", "human"]
    assert "## read" in str(told[0].content) and "You are Archon's coder." in str(told[0].content)
    assert json.loads(str(told[2].content)) == {
        "thought": "Look.",
        "calls": [{"name": "read", "arguments": {"n": n}} for n in range(2)],
    }
    assert str(told[3].content).count("Result of read") == 2 and "(failed)" in str(told[3].content)
    assert str(told[3].content).endswith("Go on.")
    # What is written so is read again so.
    assert [call.arguments for call in envelope_read(str(told[2].content))[1]] == [{"n": 0}, {"n": 1}]


def test_the_shape_names_the_tools() -> None:
    schema = envelope_schema(TOOLS)
    assert schema["properties"]["calls"]["items"]["properties"]["name"]["enum"] == ["read", "write"]
    assert UNREADABLE not in str(schema)
