"""A conversation as one model can read it, whoever spoke before.

Rows keep one form for all (see ``blocks``). Here it becomes what LangChain's class of a protocol takes: a vendor's own
blocks go back to the model that made them and to nobody else, images become what the vendor calls one or a line of
text, and a call that could not be read becomes one that can.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from .blocks import ORIGIN, calls_renamed, origin_of
from .capabilities import sees_images, takes_effort, thinks_by_budget
from .types import ModelSpec

#: Stands for an empty reply where each turn has to say something.
NOTHING_SAID = "(no answer)"
_CALL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: The ids of calls that a protocol takes; another model's may be longer, or have dots and colons.
_CALL_IDS = {
    "anthropic": re.compile(r"[a-zA-Z0-9_-]+"),
    "openai-chat": re.compile(r".{1,40}"),
    "openai-responses": re.compile(r".{1,64}"),
}


def conversation_for(spec: ModelSpec, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages for this model. Those that can go as they are are the same objects."""
    spoken: list[BaseMessage] = []
    # Images that a protocol has no room for in a tool's result follow after the last of the results.
    waiting: list[dict[str, Any]] = []
    for message in _ids_spelled(spec, messages):
        if waiting and not isinstance(message, ToolMessage):
            spoken.append(HumanMessage(waiting))  # type: ignore[arg-type]
            waiting = []
        if isinstance(message, AIMessage):
            spoken.append(_reply_for(spec, message))
        elif isinstance(message.content, str):
            spoken.append(message)
        else:
            content, images = _content_for(spec, message)
            spoken.append(message.model_copy(update={"content": content}))
            waiting += images
    if waiting:
        spoken.append(HumanMessage(waiting))  # type: ignore[arg-type]
    return spoken


def is_image(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "image" and "base64" in block


def image_line(block: dict[str, Any]) -> str:
    """What stands for an image where none can be seen."""
    size = len(block["base64"]) * 3 // 4096
    return f"[an image, {block.get('mime_type', 'of unknown type')}, {size} KB: this model cannot see it]"


def call_presentable(name: str, arguments: str) -> tuple[str, str]:
    """A call as endpoints take it back: they refuse names and arguments that aren't what they should be, even though
    it was their model that said so. Such a name is spelled otherwise, such arguments are quoted."""
    from .call_arguments import call_arguments_read

    if not _CALL_NAME.fullmatch(name):
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unnamed"
    if call_arguments_read(arguments)[0] is None:
        arguments = json.dumps({"unreadable": arguments})
    return name, arguments


def _ids_spelled(spec: ModelSpec, messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """The messages, with other ids for calls whose ids the protocol doesn't take."""
    taken = _CALL_IDS.get(spec.protocol)
    if taken is None:
        return messages
    names: dict[str, str] = {}
    for message in messages:
        if isinstance(message, AIMessage):
            for call in (*message.tool_calls, *message.invalid_tool_calls):
                if not taken.fullmatch(call_id := str(call["id"])):
                    names[call_id] = f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:24]}"
    return [_ids_changed(message, names) for message in messages] if names else messages


def _ids_changed(message: BaseMessage, names: dict[str, str]) -> BaseMessage:
    if isinstance(message, ToolMessage) and message.tool_call_id in names:
        return message.model_copy(update={"tool_call_id": names[message.tool_call_id]})
    if not isinstance(message, AIMessage):
        return message
    calls = [{**call, "id": names.get(str(call["id"]), call["id"])} for call in message.tool_calls]
    invalid = [{**call, "id": names.get(str(call["id"]), call["id"])} for call in message.invalid_tool_calls]
    content = calls_renamed(message.content, names)
    return message.model_copy(update={"content": content, "tool_calls": calls, "invalid_tool_calls": invalid})


def _reply_for(spec: ModelSpec, message: AIMessage) -> AIMessage:
    if not message.tool_calls and not message.invalid_tool_calls and not str(message.text).strip():
        # Whatever else it has: no protocol takes a turn back that says nothing.
        return AIMessage(NOTHING_SAID)
    if isinstance(message.content, str) and not message.invalid_tool_calls:
        return message
    calls = list(message.tool_calls)
    for broken in message.invalid_tool_calls:
        name, arguments = call_presentable(broken["name"] or "", broken["args"] or "{}")
        calls.append({"type": "tool_call", "id": broken["id"], "name": name, "args": json.loads(arguments)})
    own = message.additional_kwargs.get(ORIGIN) == origin_of(spec)
    if isinstance(message.content, str) or not own or (thinks_by_budget(spec) and not _thinks(spec)):
        return AIMessage(content=str(message.text), tool_calls=calls)
    build = {"anthropic": _anthropic, "gemini": _gemini, "openai-responses": _responses}.get(spec.protocol)
    if build is None:
        return AIMessage(content=str(message.text), tool_calls=calls)
    return build([block for block in message.content if isinstance(block, dict)], calls)


def _thinks(spec: ModelSpec) -> bool:
    return spec.effort is not None and takes_effort(spec)


def _anthropic(blocks: list[dict[str, Any]], calls: list[Any]) -> AIMessage:
    by_id = {call["id"]: call for call in calls}
    content: list[str | dict[str, Any]] = []
    for block in blocks:
        if block["type"] == "call":
            call = by_id[block["id"]]
            content.append({"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["args"]})
        elif block["type"] in ("text", "redacted_thinking") or block.get("signature"):
            content.append(block)
    return AIMessage(content=content, tool_calls=calls, response_metadata={"model_provider": "anthropic"})


def _responses(blocks: list[dict[str, Any]], calls: list[Any]) -> AIMessage:
    by_id = {call["id"]: call for call in calls}
    content: list[str | dict[str, Any]] = []
    for block in blocks:
        if block["type"] == "call":
            call = by_id[block["id"]]
            content.append(
                {
                    "type": "function_call",
                    "name": call["name"],
                    "arguments": json.dumps(call["args"]),
                    "call_id": call["id"],
                }
            )
        elif block["type"] == "text" or block.get("encrypted_content"):
            content.append(block)
    return AIMessage(content=content, tool_calls=calls, response_metadata={"model_provider": "openai"})


def _gemini(blocks: list[dict[str, Any]], calls: list[Any]) -> AIMessage:
    content: list[str | dict[str, Any]] = []
    for block in blocks:
        if block["type"] == "text":
            extras = {"extras": {"signature": block["signature"]}} if block.get("signature") else {}
            content.append({"type": "text", "text": block["text"]} | extras)
        elif block["type"] == "thinking":
            content.append(block)
    signatures = {
        block["id"]: block["signature"] for block in blocks if block["type"] == "call" and "signature" in block
    }
    return AIMessage(
        content=content,
        tool_calls=calls,
        additional_kwargs={"__gemini_function_call_thought_signatures__": signatures},
        response_metadata={"model_provider": "google_genai"},
    )


def _content_for(spec: ModelSpec, message: BaseMessage) -> tuple[str | list[Any], list[dict[str, Any]]]:
    """The content of a person's or a tool's message, and the images that have to follow it."""
    sees = sees_images(spec)
    apart = isinstance(message, ToolMessage) and spec.protocol in ("openai-chat", "gemini")
    blocks: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for block in message.content:
        if isinstance(block, str):
            blocks.append({"type": "text", "text": block})
        elif not is_image(block):
            blocks.append(block)
        elif not sees:
            blocks.append({"type": "text", "text": image_line(block)})
        elif apart:
            blocks.append({"type": "text", "text": "[the image follows]"})
            images.append(_image(spec, block))
        else:
            blocks.append(_image(spec, block))
    if all(block.get("type") == "text" for block in blocks):
        if spec.protocol == "anthropic" and not isinstance(message, ToolMessage):
            # Its cache finds beginnings by whole blocks: what was read as one is to stay one.
            return [{"type": "text", "text": block["text"]} for block in blocks], images
        return "\n".join(block["text"] for block in blocks), images
    return blocks, images


def _image(spec: ModelSpec, block: dict[str, Any]) -> dict[str, Any]:
    kind, data = block.get("mime_type") or "image/png", block["base64"]
    if spec.protocol == "anthropic":
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    if spec.protocol == "openai-responses":
        return {"type": "input_image", "image_url": f"data:{kind};base64,{data}", "detail": "auto"}
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
