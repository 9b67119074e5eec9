"""What of a conversation is sent: calls and results stay together, what has to stay is there, and it fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
    messages_from_dict,
)

from apps.agents.services.compaction_plan import Measured, Meter, NoRoom, Planned, Room, cut_plan
from apps.agents.services.conversation_digest import digest, excerpt
from apps.agents.services.conversation_view import Cut, view_of
from apps.agents.services.server_words import server_says, server_word
from integrations.llm_providers.blocks import ORIGIN, origin_of
from integrations.llm_providers.conversation import conversation_for
from integrations.llm_providers.tokens import message_texts
from integrations.llm_providers.types import ModelSpec

OPENING = [SystemMessage("You are Archon's coder."), HumanMessage("Task: make it work\n\nAs the goal says.")]
METER = Meter(tools_bytes=3_000, bytes_per_token=3.0)
texts = st.text(st.characters(codec="utf-8"), max_size=40)


def call(number: int, ordinal: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_call", "id": f"c{number}-{ordinal}", "name": "read_file", "args": arguments}


@st.composite
def steps(draw: st.DrawFn, number: int) -> list[BaseMessage]:
    """A reply with its results, thoughts of a vendor's in it or not, and now and then a word after it."""
    size = st.sampled_from([0, 10, 200, 2_000, 9_000])
    calls = [
        call(number, ordinal, {"path": draw(texts), "more": "y" * draw(size)})
        for ordinal in range(draw(st.integers(0, 3)))
    ]
    content: str | list[str | dict[str, Any]] = draw(texts)
    if draw(st.booleans()):
        content = [{"type": "thinking", "thinking": "hm " * draw(size), "signature": "s" * 40}]
        content += [{"type": "call", "id": each["id"]} for each in calls]
    reply = AIMessage(content, tool_calls=calls, additional_kwargs={ORIGIN: "anthropic  m"})
    results = [
        ToolMessage(
            draw(texts) + "é" * draw(size), tool_call_id=each["id"], name="read_file",
            artifact=draw(st.sampled_from([None, {"rules": ["src"]}])),
        )
        for each in calls
    ]  # fmt: skip
    after: list[BaseMessage] = []
    if not calls:
        after.append(server_says("nudge", "Go on."))
    elif draw(st.integers(0, 5)) == 0:
        after.append(HumanMessage(f"steer {number}: {draw(texts)}"))
    return [reply, *results, *after]


@st.composite
def transcripts(draw: st.DrawFn) -> list[BaseMessage]:
    said: list[BaseMessage] = list(OPENING)
    for number in range(draw(st.integers(0, 25))):
        said += draw(steps(number))
    return said


rooms = st.integers(2_000, 40_000).map(lambda window: Room(most=int(window * 0.7), trigger=int(window * 0.6)))


def compacted(transcript: list[BaseMessage], room: Room) -> list[Cut | None]:
    """The cuts that are made while the conversation grows to this, one step at a time."""
    cuts: list[Cut | None] = [None]
    said: list[BaseMessage] = []
    measured = Measured(said)
    for index, message in enumerate(transcript):
        said.append(message)
        if index + 1 < len(transcript) and isinstance(transcript[index + 1], ToolMessage):
            continue
        planned = cut_plan(measured, cuts[-1], meter=METER, room=room)
        if isinstance(planned, Planned):
            cuts.append(summarise(said, cuts[-1], planned))
    return cuts


def summarise(transcript: list[BaseMessage], former: Cut | None, planned: Planned) -> Cut:
    if not planned.needs_summary:
        return planned.cut
    dropped = transcript[planned.summarised.start : planned.summarised.stop]
    text = digest(dropped, former=former.summary if former else "", limit=planned.summary_characters)
    return replace(planned.cut, summary=text or "nothing")


def tokens(messages: list[BaseMessage]) -> int:
    return sum(len(text.encode()) for text in message_texts(messages)) // 3 + 1_000 + 8 * len(messages) + 64


def pairs_require(messages: list[BaseMessage]) -> None:
    """Each call has its one result right after the reply, in order, and no result is without its call."""
    expected: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            assert expected and message.tool_call_id == expected.pop(0)
            continue
        assert not expected
        if isinstance(message, AIMessage):
            expected = [str(each["id"]) for each in message.tool_calls]
    assert not expected


@settings(max_examples=60, deadline=None)
@given(transcripts(), rooms)
def test_a_view_has_what_has_to_stay_and_fits(transcript: list[BaseMessage], room: Room) -> None:
    cut = compacted(transcript, room)[-1]
    view = view_of(transcript, cut)
    pairs_require(view)
    # The opening and the last word of a person, as they were said.
    assert view[0] == OPENING[0]
    said = [text for message in view for text in message_texts([message])]
    assert str(OPENING[1].content) in said
    words = [m for m in transcript if isinstance(m, HumanMessage) and server_word(m) is None]
    assert str(words[-1].content) in said
    planned = cut_plan(Measured(transcript), cut, meter=METER, room=room)
    if isinstance(planned, NoRoom):
        assert planned.needed > room.most
    else:
        # Idempotent: what was just cut isn't cut again.
        assert planned is None
        assert tokens(view) <= room.most
    # Replies are sent as they were or not at all.
    replies = [message for message in transcript if isinstance(message, AIMessage)]
    assert [m for m in view if isinstance(m, AIMessage)] == replies[
        len(replies) - sum(isinstance(m, AIMessage) for m in view) :
    ]


@settings(max_examples=20, deadline=None)
@given(transcripts(), rooms)
def test_a_view_is_a_function_of_the_rows(transcript: list[BaseMessage], room: Room) -> None:
    cuts = compacted(transcript, room)
    read_again = messages_from_dict([message_to_dict(message) for message in transcript])
    assert compacted(read_again, room) == cuts
    assert view_of(read_again, cuts[-1]) == view_of(transcript, cuts[-1])


@settings(max_examples=20, deadline=None)
@given(transcripts(), rooms)
def test_a_view_grows_at_its_end_until_the_next_cut(transcript: list[BaseMessage], room: Room) -> None:
    """So that vendors find the beginning of each request in their caches."""
    cut = compacted(transcript, room)[-1]
    before = view_of(transcript, cut)
    later = view_of([*transcript, AIMessage("so", tool_calls=[call(99, 0, {})]), result(99)], cut)
    assert later[: len(before)] == before


def result(number: int) -> ToolMessage:
    return ToolMessage("x" * 5_000, tool_call_id=f"c{number}-0", name="read_file")


def long_conversation(count: int) -> list[BaseMessage]:
    said: list[BaseMessage] = list(OPENING)
    for number in range(count):
        said += [AIMessage("on", tool_calls=[call(number, 0, {"path": f"f{number}.py"})]), result(number)]
    return said


def test_outputs_are_cleared_before_anything_is_summarised() -> None:
    transcript = long_conversation(12)
    planned = cut_plan(Measured(transcript), None, meter=METER, room=Room(most=18_000, trigger=16_000))
    assert isinstance(planned, Planned) and not planned.needs_summary
    view = view_of(transcript, planned.cut)
    assert len(view) == len(transcript)
    assert "search_conversation with message 3" in str(view[3].content)
    assert [str(message.content) for message in view[-6:] if isinstance(message, ToolMessage)] == ["x" * 5_000] * 3


def test_a_person_s_answer_is_no_output() -> None:
    transcript = long_conversation(12)
    transcript[3] = ToolMessage("the answer " * 300, tool_call_id="c0-0", name="ask_user")
    planned = cut_plan(Measured(transcript), None, meter=METER, room=Room(most=18_000, trigger=16_000))
    assert isinstance(planned, Planned) and planned.cut.cleared_to > 3
    assert view_of(transcript, planned.cut)[3] == transcript[3]


def test_cuts_are_rare() -> None:
    cuts = compacted(long_conversation(200), Room(most=60_000, trigger=50_000))
    assert 2 <= len(cuts) - 1 <= 20


def test_what_cannot_fit_is_said() -> None:
    transcript: list[BaseMessage] = [OPENING[0], HumanMessage("goal " * 5_000)]
    planned = cut_plan(Measured(transcript), None, meter=METER, room=Room(most=3_000, trigger=2_500))
    assert isinstance(planned, NoRoom) and planned.needed > 8_000


def test_all_vendors_read_what_is_left() -> None:
    transcript = long_conversation(40)
    transcript[-1:-1] = []
    cut = compacted(transcript, Room(most=9_000, trigger=8_000))[-1]
    assert cut is not None and cut.dropped_to
    for provider in ("openai", "openai-responses", "anthropic", "gemini"):
        sent = conversation_for(ModelSpec(provider=provider, model="m"), view_of(transcript, cut))
        pairs_require(sent)
        kinds = [message.type for message in sent]
        assert kinds[:3] == ["system", "human", "ai"] and kinds.count("human") == 1


def test_thoughts_stay_with_their_calls() -> None:
    spec = ModelSpec(provider="anthropic", model="claude-sonnet-4-5", effort="high", base_url="https://a.example")
    transcript = long_conversation(30)
    for index, message in enumerate(transcript):
        if isinstance(message, AIMessage):
            blocks = [{"type": "thinking", "thinking": "hm", "signature": "sig"}]
            calls = [{"type": "call", "id": each["id"]} for each in message.tool_calls]
            transcript[index] = AIMessage(
                [*blocks, *calls], tool_calls=message.tool_calls, additional_kwargs={ORIGIN: origin_of(spec)}
            )
    cut = compacted(transcript, Room(most=9_000, trigger=8_000))[-1]
    sent = conversation_for(spec, view_of(transcript, cut))
    replies = [message for message in sent if isinstance(message, AIMessage)]
    assert replies
    for reply in replies:
        assert [block["type"] for block in reply.content] == ["thinking", "tool_use"]  # type: ignore[index]


@settings(max_examples=20, deadline=None)
@given(transcripts(), st.integers(0, 4_000), texts)
def test_a_digest_is_short_and_always_the_same(transcript: list[BaseMessage], limit: int, former: str) -> None:
    told = digest(transcript, former=former, limit=limit)
    assert len(told) <= limit and told == digest(transcript, former=former, limit=limit)
    assert len(excerpt(transcript, 0, former=former, limit=limit + 200)) <= limit + 300


def test_a_digest_tells_what_was_done() -> None:
    transcript = [
        HumanMessage("use tabs"),
        AIMessage("Mend it.", tool_calls=[call(1, 0, {"path": "a.py"}) | {"id": "1", "name": "edit_file"}]),
        ToolMessage("edited", tool_call_id="1", name="edit_file"),
        AIMessage("", tool_calls=[call(2, 0, {"command": "make"}) | {"id": "2", "name": "run_command"}]),
        ToolMessage("boom\n[exit code 2, 0.1 s]", tool_call_id="2", name="run_command", status="error"),
    ]  # fmt: skip
    told = digest(transcript, former="", limit=2_000)
    for line in ("use tabs", "a.py (1x)", "make -> [exit code 2, 0.1 s]", "Mend it."):
        assert line in told


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("This model's maximum context length is 8192 tokens, however you requested more", 8_192),
        ("prompt is too long: 210000 tokens > 200000 maximum", 200_000),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1_048_576),
        ("the request exceeds the available context size (4096 tokens), try increasing it", 4_096),
        ("too many tokens", None),
    ],
)
def test_the_window_that_an_endpoint_names(text: str, window: int | None) -> None:
    from integrations.llm_providers.failures import context_said

    assert context_said(text) == window
