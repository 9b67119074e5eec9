"""A recorded dialogue answers by what is asked, never by how often, and says what it has no answer to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import add_ai_message_chunks
from pytest_django import Settings

from integrations.llm_providers import get_chat_model
from integrations.llm_providers.errors import RecordingInvalid, RecordingMissing
from integrations.llm_providers.recording import recording_load, recording_path
from integrations.llm_providers.scripted import ScriptedChatModel
from integrations.llm_providers.types import ModelSpec

Entry = dict[str, Any]


@pytest.fixture
def home(settings: Settings, tmp_path: Path) -> Path:
    settings.ARCHON_HOME = tmp_path
    (tmp_path / "recordings").mkdir()
    return tmp_path


def model(folder: Path, *entries: Entry, **document: Any) -> ScriptedChatModel:
    path = folder / "recording.json"
    path.write_text(json.dumps({"format": 1, "entries": list(entries), **document}))
    return ScriptedChatModel.of(recording_load(path))


def entry(text: str, **when: Any) -> Entry:
    return {"when": when, "reply": {"text": text}}


def asked(*rest: BaseMessage, role: str = "coder", task: str = "Fix the sum") -> list[BaseMessage]:
    return [SystemMessage(f"You are Archon's {role}.\nBe brief."), HumanMessage(f"Task: {task}"), *rest]


def used(tool: str, result: str, **arguments: Any) -> list[BaseMessage]:
    call = {"name": tool, "args": arguments, "id": "1"}
    return [AIMessage("", tool_calls=[call]), ToolMessage(result, tool_call_id="1")]


def test_role_and_task_choose_the_entry(tmp_path: Path) -> None:
    played = model(
        tmp_path,
        entry("plan", role="planner"),
        entry("sum", role="coder", task="Fix .* sum"),
        entry("other", role="coder"),
    )
    assert played.invoke(asked(role="planner")).content == "plan"
    assert played.invoke(asked()).content == "sum"
    assert played.invoke(asked(task="Write the docs")).content == "other"


def test_the_same_request_gets_the_same_answer_however_often(tmp_path: Path) -> None:
    played = model(tmp_path, entry("first"), entry("second"))
    assert [played.invoke(asked()).content for _ in range(3)] == ["first"] * 3


def test_tools_and_their_results_choose_the_entry(tmp_path: Path) -> None:
    played = model(
        tmp_path,
        entry("empty", last_tool="read_file", last_result="^$"),
        entry("read", last_tool="read_file"),
        entry("searched", last_tool="search"),
        entry("begun"),
    )
    assert played.invoke(asked()).content == "begun"
    assert played.invoke(asked(*used("search", "a.py:1"))).content == "searched"
    assert played.invoke(asked(*used("read_file", "x = 1"))).content == "read"
    assert played.invoke(asked(*used("read_file", ""))).content == "empty"
    assert played.invoke(asked(*used("read_file", "x"), HumanMessage("Go on"))).content == "begun"


def test_what_was_seen_before_chooses_the_entry(tmp_path: Path) -> None:
    played = model(
        tmp_path,
        entry("edited", seen=[r"edit_file .*a\.py"]),
        entry("not read", not_seen=["x = 1"]),
        entry("user", user="Go on$"),
        entry("rest"),
    )
    assert played.invoke(asked()).content == "not read"
    assert played.invoke(asked(*used("read_file", "x = 1"))).content == "rest"
    assert played.invoke(asked(*used("read_file", "x = 1"), HumanMessage("Go on"))).content == "user"
    assert played.invoke(asked(*used("edit_file", "done", path="src/a.py"))).content == "edited"


def test_tools_have_to_be_offered(tmp_path: Path) -> None:
    played = model(tmp_path, entry("with", tools=["read_file"]), entry("without"))
    tool = {"name": "read_file", "description": "Reads.", "parameters": {"type": "object", "properties": {}}}
    assert played.invoke(asked()).content == "without"
    assert played.bind_tools([tool]).invoke(asked()).content == "with"


def test_named_groups_fill_the_reply(tmp_path: Path) -> None:
    played = model(
        tmp_path,
        {
            "when": {"task": r"Fix (?P<file>\S+)", "last_result": r"line (?P<line>\d+)"},
            "reply": {
                "text": "Looking at {{file}}.",
                "tool_calls": [
                    {"name": "read", "args": {"path": "src/{{ file }}", "start": "{{line:int}}", "deep": ["{{line}}"]}}
                ],
            },
        },
    )
    reply = played.invoke(asked(*used("search", "hit on line 12"), task="Fix sum.py"))
    assert reply.content == "Looking at sum.py."
    assert reply.tool_calls[0]["args"] == {"path": "src/sum.py", "start": 12, "deep": ["12"]}


def test_what_has_no_answer_is_shown(tmp_path: Path) -> None:
    played = model(tmp_path, entry("plan", role="planner"))
    with pytest.raises(RecordingMissing) as caught:
        played.invoke(asked(*used("read_file", "secret = 42")))
    for shown in ("role: coder", "Fix the sum", "last tool: read_file", "secret = 42"):
        assert shown in caught.value.message


@pytest.mark.asyncio
async def test_a_reply_streams_in_words_and_ends_with_its_usage(tmp_path: Path) -> None:
    played = model(
        tmp_path,
        {
            "reply": {"text": "One two\nthree", "tool_calls": [{"name": "read", "args": {"path": "a"}}]},
            "usage": {"input_tokens": 7, "output_tokens": 3},
        },
    )
    chunks = [chunk async for chunk in played.astream(asked()) if isinstance(chunk, AIMessageChunk)]
    assert [chunk.content for chunk in chunks if chunk.content] == ["One ", "two\n", "three"]
    assert chunks[-1].chunk_position == "last"
    whole = add_ai_message_chunks(*chunks)
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 10
    assert whole.tool_calls[0]["args"] == {"path": "a"}
    again = await played.ainvoke(asked())
    assert again.tool_calls[0]["id"] != whole.tool_calls[0]["id"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "cannot be read"),
        ("[]", "has to be an object"),
        ('{"entries": []}', "format has to be 1"),
        ('{"format": 1, "entries": []}', "something in it"),
        ('{"format": 1, "entries": [{"reply": {}}]}', "entry 1: the reply has neither"),
        ('{"format": 1, "entries": [{"reply": {"text": "a"}}, {"replies": 1}]}', "entry 2: unknown replies"),
        ('{"format": 1, "entries": [{"when": {"turn": 3}, "reply": {"text": "a"}}]}', "unknown turn"),
        ('{"format": 1, "entries": [{"when": {"task": "("}, "reply": {"text": "a"}}]}', "no regular expression"),
        ('{"format": 1, "entries": [{"reply": {"text": "{{nobody}}"}}]}', "{{nobody}} is no named group"),
        ('{"format": 1, "entries": [{"reply": {"tool_calls": [{"name": "x", "args": []}]}}]}', "args has to be"),
        ('{"format": 1, "delay_ms": -1, "entries": [{"reply": {"text": "a"}}]}', "not negative"),
    ],
)
def test_a_malformed_recording_says_where(tmp_path: Path, document: str, problem: str) -> None:
    path = tmp_path / "recording.json"
    path.write_text(document)
    with pytest.raises(RecordingInvalid) as caught:
        recording_load(path)
    assert problem in caught.value.message


def test_recordings_are_found_by_name_or_path(home: Path) -> None:
    path = home / "recordings" / "mine.json"
    path.write_text(json.dumps({"format": 1, "entries": [entry("mine")]}))
    assert recording_path("mine") == recording_path(str(path)) == path.resolve()
    assert get_chat_model(ModelSpec("scripted", "mine")).invoke(asked()).content == "mine"


def test_recordings_outside_the_folders_are_not_there(home: Path, tmp_path: Path) -> None:
    outside = home / "outside.json"
    outside.write_text(json.dumps({"format": 1, "entries": [entry("no")]}))
    (home / "recordings" / "link.json").symlink_to(outside)
    for reference in (str(outside), "../outside", "../outside.json", "link", "/etc/passwd", "a\x00b", "x" * 5000, ""):
        with pytest.raises(RecordingInvalid, match="there is no recording"):
            recording_path(reference)
