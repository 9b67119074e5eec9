"""A reply that was cut off or malformed never turns into a call that nobody made."""

from __future__ import annotations

import json

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

from apps.usage.reply import message_of


def chunk(*calls: tuple[str | None, str | None, str | None]) -> AIMessageChunk:
    parts = [
        tool_call_chunk(id=call_id, name=name, args=text, index=index)
        for index, (call_id, name, text) in enumerate(calls)
    ]
    return AIMessageChunk(content="text", tool_call_chunks=parts)


@hypothesis.settings(deadline=None)
@given(cut=st.integers(1, 60))
def test_half_a_call_is_invalid_and_not_completed(cut: int) -> None:
    whole = json.dumps({"path": "a.py", "content": "def f():\n    return 1\n" * 3})
    message = message_of([chunk(("1", "write", whole[:cut]))], seen=())
    assert message.tool_calls == []
    assert [call["args"] for call in message.invalid_tool_calls] == [whole[:cut]]
    assert "not valid JSON" in (message.invalid_tool_calls[0]["error"] or "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1]", "not a JSON object"),
        ("{]", "not valid JSON"),
        ("[" * 9999, "JSON"),
        ('{"a": NaN}', "not a number"),
        ('{"a": [-1e999]}', "not a number"),
    ],
)
def test_arguments_that_are_no_object_are_invalid(text: str, why: str) -> None:
    assert why in (message_of([chunk(("1", "read", text))], seen=()).invalid_tool_calls[0]["error"] or "")


def test_a_call_without_arguments_has_none() -> None:
    assert message_of([chunk(("1", "list", ""))], seen=()).tool_calls[0]["args"] == {}


def test_a_call_without_a_name_is_invalid() -> None:
    assert "no name" in (message_of([chunk(("1", None, "{}"))], seen=()).invalid_tool_calls[0]["error"] or "")


def part(name: str | None, text: str, call_id: str | None = None) -> AIMessageChunk:
    """A piece of a call of a server that gives every call the number zero."""
    return AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(id=call_id, name=name, args=text, index=0)])


@pytest.mark.parametrize("call_id", [None, ""])
def test_calls_of_one_number_and_without_ids_are_told_apart(call_id: str | None) -> None:
    pieces = [part("read", '{"n": ', call_id), part(None, "1}"), part("read", '{"n": 2}', call_id), part("list", "{}")]
    message = message_of(pieces, seen=())
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [
        ("read", {"n": 1}),
        ("read", {"n": 2}),
        ("list", {}),
    ]
    assert len({call["id"] for call in message.tool_calls}) == 3


def test_pieces_of_one_call_stay_together() -> None:
    pieces = [part("read", "", "a"), part(None, '{"n"'), part("", ": {"), part(None, "}}")]
    message = message_of(pieces, seen=())
    assert [(call["name"], call["args"], call["id"]) for call in message.tool_calls] == [("read", {"n": {}}, "a")]


def test_ids_that_are_missing_or_used_before_are_replaced() -> None:
    earlier = AIMessage("", tool_calls=[{"name": "read", "args": {}, "id": "call_0"}])
    message = message_of(
        [chunk(("call_0", "read", "{}"), (None, "read", "{}"), ("x", "read", "{}"), ("x", "read", "{}"))],
        seen=[earlier],
    )
    ids = [call["id"] for call in message.tool_calls]
    assert len(set(ids)) == 4
    assert "call_0" not in ids
    assert ids[2] == "x"


def test_parts_of_a_stream_are_put_together() -> None:
    parts = [
        AIMessageChunk(content="Hel"),
        AIMessageChunk(content="lo", tool_call_chunks=[tool_call_chunk(id="1", name="read", args='{"pa', index=0)]),
        AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(args='th": "a"}', index=0)]),
        AIMessageChunk(content="", response_metadata={"finish_reason": "tool_calls", "system_fingerprint": "x"}),
    ]
    message = message_of(parts, seen=())
    assert message.content == "Hello"
    assert message.tool_calls[0]["args"] == {"path": "a"}
    assert message.response_metadata == {"finish_reason": "tool_calls"}
