"""Tools for models that cannot call any: the calls are written as JSON of a given shape, and read from there.

What is above sees ordinary messages. The tools stand in the system prompt, a reply is ``{"thought": …, "calls": […]}``,
results come back as messages of the user.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from .call_arguments import call_arguments_read

_INSTRUCTIONS = """\
# How to call tools

Answer with one JSON object and nothing else, of this shape:

{{"thought": "what you think, in a sentence", "calls": [{{"name": "a tool's name", "arguments": {{}}}}]}}

"calls" holds the tools that you call, one after the other; "arguments" is an object that fits the tool's parameters.
You get the results in the next message. Never write a result yourself.

# Tools

{tools}"""
_MOST_STARTS = 200
#: Between what is said together; no text of blanks alone, since some endpoints refuse one.
_GAP = {"type": "text", "text": "\n\n---\n\n"}
#: The name under which an answer that cannot be read stands in the conversation.
UNREADABLE = "unreadable_answer"


@dataclass(frozen=True)
class EnvelopeCall:
    """A call as it was written; ``error`` says what is wrong with it."""

    name: str
    arguments: dict[str, Any] | None
    text: str
    error: str = ""


def envelope_schema(tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The shape of a reply, as a JSON schema."""
    call = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": [tool["function"]["name"] for tool in tools]},
            "arguments": {"type": "object"},
        },
        "required": ["name", "arguments"],
    }
    return {
        "type": "object",
        "properties": {"thought": {"type": "string"}, "calls": {"type": "array", "items": call}},
        "required": ["thought", "calls"],
    }


def envelope_conversation(messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]]) -> list[BaseMessage]:
    """The conversation as a model without tools reads it."""
    listed = "\n\n".join(_described(tool["function"]) for tool in tools)
    instructions = _INSTRUCTIONS.format(tools=listed)
    spoken: list[BaseMessage] = []
    if messages and isinstance(messages[0], SystemMessage):
        spoken.append(SystemMessage(f"{messages[0].text}\n\n{instructions}"))
        messages = messages[1:]
    else:
        spoken.append(SystemMessage(instructions))
    names: dict[str, str] = {}
    for message in messages:
        if isinstance(message, AIMessage):
            calls = [*message.tool_calls, *message.invalid_tool_calls]
            names |= {str(call["id"]): call["name"] or "" for call in calls}
            spoken.append(AIMessage(_written(message)))
        elif isinstance(message, ToolMessage):
            failed = " (failed)" if message.status == "error" else ""
            head = f"Result of {names.get(message.tool_call_id, message.name)}{failed}:\n"
            _user_add(spoken, head, message.content)
        elif isinstance(message, HumanMessage):
            _user_add(spoken, "", message.content)
        else:
            spoken.append(message)
    return spoken


def envelope_read(text: str) -> tuple[str, list[EnvelopeCall]]:
    """What a reply says and calls. Fences and words around the JSON don't matter; words alone call nothing."""
    found = _objects(text)
    thoughts: list[str] = []
    calls: list[EnvelopeCall] = []
    for source, value in found:
        if "calls" in value or "thought" in value:
            if isinstance(value.get("thought"), str):
                thoughts.append(value["thought"])
            listed = value.get("calls") or []
            if isinstance(listed, list):
                calls += [_call(item) for item in listed]
            else:
                calls.append(EnvelopeCall(UNREADABLE, None, source[:2000], '"calls" is not a list'))
        elif "name" in value and ("arguments" in value or "parameters" in value):
            calls.append(_call(value))
    if calls or thoughts:
        return "\n".join(thoughts), calls
    if any(mark in text for mark in ('"calls"', '"arguments"', '"thought"')):
        error = "the answer is not one JSON object of the shape that was asked for"
        return "", [EnvelopeCall(UNREADABLE, None, text[:2000], error)]
    return text.strip(), []


def _call(item: Any) -> EnvelopeCall:
    text = json.dumps(item)
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
        return EnvelopeCall(UNREADABLE, None, text, "a call is an object with a name and arguments")
    given = item.get("arguments", item.get("parameters", {}))
    arguments, error = call_arguments_read(given if isinstance(given, str) else json.dumps(given))
    return EnvelopeCall(item["name"], arguments, text, error)


def _objects(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The JSON objects in a text, one after the other."""
    decoder = json.JSONDecoder(strict=False)
    found: list[tuple[str, dict[str, Any]]] = []
    at = 0
    for _ in range(_MOST_STARTS):
        start = text.find("{", at)
        if start < 0:
            break
        try:
            _, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            at = start + 1
            continue
        value, _error = call_arguments_read(text[start:at])  # strictly: no NaN, not too deep
        if value is not None:
            found.append((text[start:at], value))
    return found


def _described(function: dict[str, Any]) -> str:
    parameters = json.dumps(function.get("parameters") or {}, ensure_ascii=False)
    return f"## {function['name']}\n{function.get('description', '')}\nParameters (JSON schema): {parameters}"


def _written(message: AIMessage) -> str:
    """A reply as the model would have written it."""
    calls: list[Any] = [{"name": call["name"], "arguments": call["args"]} for call in message.tool_calls]
    calls += [{"name": call["name"], "arguments": call["args"]} for call in message.invalid_tool_calls]
    return json.dumps({"thought": str(message.text), "calls": calls}, ensure_ascii=False)


def _user_add(spoken: list[BaseMessage], head: str, content: str | list[Any]) -> None:
    """Say something as the user: together with what the user said just before."""
    blocks: list[Any] = [{"type": "text", "text": head + content}] if isinstance(content, str) else list(content)
    if head and not isinstance(content, str):
        blocks = [{"type": "text", "text": head}, *blocks]
    if spoken and isinstance(spoken[-1], HumanMessage):
        before = spoken.pop().content
        blocks = [*([{"type": "text", "text": before}] if isinstance(before, str) else before), _GAP, *blocks]
    if all(isinstance(block, dict) and block.get("type") == "text" for block in blocks):
        spoken.append(HumanMessage("".join(block["text"] for block in blocks)))
    else:
        spoken.append(HumanMessage(blocks))
