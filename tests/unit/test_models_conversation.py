"""A conversation in rows goes to each vendor in its form, and nobody gets another's blocks."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
    messages_from_dict,
)
from langchain_core.messages.tool import tool_call_chunk

from apps.agents.nodes.replies import message_normalise
from apps.agents.services.conversation_view import Cut, view_of
from apps.agents.services.server_words import standing_set
from apps.usage.reply import message_of
from integrations.llm_providers.blocks import ORIGIN, origin_of
from integrations.llm_providers.conversation import conversation_for
from integrations.llm_providers.types import ModelSpec

CLAUDE = ModelSpec(provider="anthropic", model="claude-sonnet-4-5", base_url="http://127.0.0.1:1", effort="high")
RESPONSES = ModelSpec(provider="openai-responses", model="gpt-5-mini", base_url="http://127.0.0.1:1/v1")
GEMINI = ModelSpec(provider="gemini", model="gemini-3-flash", base_url="http://127.0.0.1:1")
CHAT = ModelSpec(provider="openai", model="gpt-4o", base_url="http://127.0.0.1:1/v1")


def call_of(call_id: str, vendor: str) -> tuple[Any, Any]:
    """A call as a block of the vendor's and as LangChain's part of a stream."""
    block = {
        "claude": {"type": "tool_use", "id": call_id, "name": "read", "input": {}},
        "openai": {"type": "function_call", "call_id": call_id, "id": "fc_1", "name": "read", "arguments": "{}"},
    }.get(vendor)
    return block, tool_call_chunk(id=call_id, name="read", args='{"n": 1}', index=None)


def thought(vendor: str, call_id: str = "a") -> AIMessageChunk:
    block, part = call_of(call_id, vendor)
    content: list[Any] = {
        "claude": [
            {"type": "thinking", "thinking": "Hm.", "signature": "sig", "index": 0},
            {"type": "redacted_thinking", "data": "x", "index": 1},
            {"type": "text", "text": "Look.", "index": 2},
            block,
        ],
        "openai": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "enc", "index": 0},
            {"type": "text", "text": "Look.", "id": "msg_1", "annotations": []},
            block,
        ],
        "gemini": [{"type": "text", "text": "Look.", "extras": {"signature": "text-sig"}}],
    }[vendor]
    more = {"__gemini_function_call_thought_signatures__": {call_id: "call-sig"}} if vendor == "gemini" else {}
    return AIMessageChunk(content=content, tool_call_chunks=[part], additional_kwargs=more)


def kept(vendor: str, spec: ModelSpec, seen: list[BaseMessage] | None = None) -> AIMessage:
    """The reply as it stands in its row, and comes out of it."""
    message = message_normalise(message_of([thought(vendor)], seen=seen or [], origin=origin_of(spec)), 3)
    (again,) = messages_from_dict([message_to_dict(message)])
    assert isinstance(again, AIMessage) and again == message
    return again


@pytest.mark.parametrize(("vendor", "spec"), [("claude", CLAUDE), ("openai", RESPONSES), ("gemini", GEMINI)])
def test_a_vendor_gets_its_own_blocks_back(vendor: str, spec: ModelSpec) -> None:
    message = kept(vendor, spec)
    (sent,) = conversation_for(spec, [message])
    shown = str(sent)
    assert str(message.text) == "Look."
    for secret in {"claude": ["sig", "'data': 'x'"], "openai": ["enc"], "gemini": ["text-sig", "call-sig"]}[vendor]:
        assert secret in shown
    assert sent.tool_calls == message.tool_calls  # type: ignore[attr-defined]


@pytest.mark.parametrize("other", [CLAUDE, RESPONSES, GEMINI, CHAT])
@pytest.mark.parametrize(("vendor", "spec"), [("claude", CLAUDE), ("openai", RESPONSES), ("gemini", GEMINI)])
def test_another_gets_the_text_and_the_calls(vendor: str, spec: ModelSpec, other: ModelSpec) -> None:
    message = kept(vendor, spec)
    others = [replace(other, model="another"), replace(other, base_url="http://127.0.0.1:2")]
    for another in others if other == spec else [other, *others]:
        (sent,) = conversation_for(another, [message])
        assert sent.content == "Look."
        assert sent.tool_calls == message.tool_calls  # type: ignore[attr-defined]
        assert sent.additional_kwargs == {}


def test_a_call_that_was_given_another_id_keeps_its_place() -> None:
    earlier = AIMessage("", tool_calls=[{"type": "tool_call", "id": "a", "name": "read", "args": {}}])
    for vendor, spec in (("claude", CLAUDE), ("openai", RESPONSES), ("gemini", GEMINI)):
        message = kept(vendor, spec, seen=[earlier])
        renamed = str(message.tool_calls[0]["id"])
        assert renamed != "a"
        assert [block["id"] for block in message.content if block["type"] == "call"] == [renamed]  # type: ignore[index]
        (sent,) = conversation_for(spec, [message])
        if vendor == "gemini":
            assert sent.additional_kwargs["__gemini_function_call_thought_signatures__"] == {renamed: "call-sig"}
        else:
            assert renamed in str(sent.content) and "'a'" not in str(sent.content)


def test_text_alone_is_a_string() -> None:
    parts = [AIMessageChunk(content=[{"type": "text", "text": text, "index": 0}]) for text in ("Hel", "lo")]
    message = message_of(parts, seen=(), origin="x")
    assert (message.content, message.additional_kwargs) == ("Hello", {})
    assert ORIGIN not in str(message_to_dict(message_normalise(message, 0)))


def test_thoughts_stay_out_where_no_effort_is_asked_for() -> None:
    message = kept("claude", CLAUDE)
    (sent,) = conversation_for(replace(CLAUDE, effort=None), [message])
    assert sent.content == "Look."


def test_a_call_that_could_not_be_read_can_be_answered() -> None:
    broken = AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(id="a", name="re ad", args='{"n', index=0)])
    message = message_normalise(message_of([broken], seen=()), 1)
    for spec in (CLAUDE, RESPONSES, GEMINI, CHAT):
        sent, _ = conversation_for(spec, [message, ToolMessage("no JSON", tool_call_id="a")])
        assert sent.tool_calls == [  # type: ignore[attr-defined]
            {"type": "tool_call", "id": "a", "name": "re_ad", "args": {"unreadable": '{"n'}}
        ]


def test_messages_that_need_nothing_are_the_same_objects() -> None:
    messages: list[BaseMessage] = [HumanMessage("x"), AIMessage("y"), ToolMessage("z", tool_call_id="1")]
    assert all(a is b for a, b in zip(conversation_for(CHAT, messages), messages, strict=True))


@pytest.mark.parametrize("spec", [CLAUDE, RESPONSES, GEMINI, CHAT])
@pytest.mark.parametrize("call_id", ["functions.read:0", "chatcmpl-tool-" + "f" * 32, "x" * 90])
def test_another_models_ids_are_spelled_as_the_protocol_takes_them(spec: ModelSpec, call_id: str) -> None:
    call = {"name": "read", "args": {}, "id": call_id}
    broken = {"type": "invalid_tool_call", "name": "read", "args": "{", "id": call_id + "b", "error": "broken"}
    reply = AIMessage([{"type": "call", "id": call_id}], tool_calls=[call], invalid_tool_calls=[broken])
    results = [ToolMessage("x", tool_call_id=call_id), ToolMessage("y", tool_call_id=call_id + "b")]
    sent, *answers = conversation_for(spec, [reply, *results])
    assert isinstance(sent, AIMessage)
    ids = [str(one["id"]) for one in sent.tool_calls]
    assert ids == [answer.tool_call_id for answer in answers if isinstance(answer, ToolMessage)]
    assert len(set(ids)) == 2
    longest = {"openai-chat": 40, "openai-responses": 64}.get(spec.protocol, 100)
    assert all(len(one) <= longest for one in ids)
    if spec.protocol == "anthropic":
        assert all(re.fullmatch("[a-zA-Z0-9_-]+", one) for one in ids)
    if re.fullmatch("[a-z:.0]{1,40}", call_id) and spec.protocol != "anthropic":
        assert ids[0] == call_id  # some servers want their own form back


@pytest.mark.parametrize("spec", [CLAUDE, RESPONSES, GEMINI, CHAT])
def test_a_turn_that_says_nothing_is_not_sent_empty(spec: ModelSpec) -> None:
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": "sig"}]
    for content in ("", "\n\n", thoughts):
        reply = AIMessage(content, additional_kwargs={ORIGIN: origin_of(spec)})  # type: ignore[arg-type]
        (sent,) = conversation_for(spec, [reply])
        assert sent.content == "(no answer)"


def test_what_a_conversation_begins_with_stays_the_same_blocks_when_it_is_cut() -> None:
    """Anthropic's cache finds beginnings by whole blocks."""
    brief = standing_set(HumanMessage("Task: x"), "Use tabs.", digest="d")
    said = [SystemMessage("You are Archon's coder."), brief, AIMessage("one"), HumanMessage("two"), AIMessage("three")]
    whole = conversation_for(CLAUDE, view_of(said, None))
    cut = conversation_for(CLAUDE, view_of(said, Cut(dropped_to=4, kept=(3,), summary="So far: one.", position=4)))
    begins = [{"type": "text", "text": "Use tabs.\n"}, {"type": "text", "text": "Task: x"}]
    assert whole[1].content == begins
    assert cut[1].content[:2] == begins and len(cut[1].content) == 4
