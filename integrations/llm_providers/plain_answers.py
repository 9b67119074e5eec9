"""Whole answers as the streams that they would have been, one function a protocol.

For servers that answer a streaming request with one JSON document. Each raises ValueError, KeyError or TypeError for
what is no answer of its protocol.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Events = Iterator[tuple[str, Any]]


def chat_completion_events(answer: Any) -> Events:
    """Of the OpenAI chat protocol."""
    if not isinstance(answer, dict) or not answer.get("choices"):
        raise ValueError(f"an answer without choices: {_shown(answer)}")
    message = answer["choices"][0]["message"]
    arguments_write(message)
    calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls") or ())]
    delta = {"role": "assistant", "content": message.get("content")}
    if calls:
        delta["tool_calls"] = calls
    head = {key: answer.get(key) for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = {"index": 0, "delta": delta, "finish_reason": answer["choices"][0].get("finish_reason")}
    yield "", head | {"choices": [choice]}
    if answer.get("usage"):
        yield "", head | {"choices": [], "usage": answer["usage"]}
    yield "", "[DONE]"


def arguments_write(message: Any) -> None:
    """Write the arguments of its calls as text, where a server of the OpenAI chat protocol has them as objects."""
    for call in (message.get("tool_calls") if isinstance(message, dict) else None) or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
            function["arguments"] = json.dumps(function["arguments"])


def response_events(answer: Any) -> Events:
    """Of the OpenAI Responses protocol."""
    if not isinstance(answer, dict) or not isinstance(answer.get("output"), list):
        raise ValueError(f"an answer without output: {_shown(answer)}")
    count = 0

    def event(kind: str, **fields: Any) -> tuple[str, Any]:
        nonlocal count
        count += 1
        return kind, {"type": kind, "sequence_number": count - 1, **fields}

    yield event("response.created", response=answer | {"status": "in_progress", "output": [], "usage": None})
    for index, item in enumerate(answer["output"]):
        kind = item["type"]
        at = {"output_index": index, "item_id": item.get("id") or f"item_{index}"}
        if kind == "message":
            yield event("response.output_item.added", output_index=index, item=item | {"content": []})
            for place, part in enumerate(item["content"]):
                if part["type"] == "output_text":
                    yield event(
                        "response.output_text.delta", **at, content_index=place, delta=part["text"], logprobs=[]
                    )
                elif part["type"] == "refusal":
                    yield event("response.refusal.done", **at, content_index=place, refusal=part["refusal"])
        elif kind == "function_call":
            yield event("response.output_item.added", output_index=index, item=item | {"arguments": ""})
            yield event("response.function_call_arguments.delta", **at, delta=item["arguments"])
        else:
            yield event("response.output_item.added", output_index=index, item=item)
        yield event("response.output_item.done", output_index=index, item=item)
    final = "response.incomplete" if answer.get("status") == "incomplete" else "response.completed"
    yield event(final, response=answer)


def message_events(answer: Any) -> Events:
    """Of Anthropic's Messages protocol."""
    if not isinstance(answer, dict) or not isinstance(answer.get("content"), list):
        raise ValueError(f"an answer without content: {_shown(answer)}")
    usage = answer.get("usage") or {}
    start = answer | {"content": [], "stop_reason": None, "stop_sequence": None}
    yield "message_start", {"type": "message_start", "message": start}
    for index, block in enumerate(answer["content"]):
        kind = block["type"]
        opening, deltas = block, []
        if kind == "text":
            opening, deltas = block | {"text": ""}, [{"type": "text_delta", "text": block["text"]}]
        elif kind == "thinking":
            opening = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block.get("signature") or ""},
            ]
        elif kind == "tool_use":
            opening = block | {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        at = {"index": index}
        yield "content_block_start", {"type": "content_block_start", "content_block": opening} | at
        for delta in deltas:
            yield "content_block_delta", {"type": "content_block_delta", "delta": delta} | at
        yield "content_block_stop", {"type": "content_block_stop"} | at
    end = {"stop_reason": answer.get("stop_reason"), "stop_sequence": answer.get("stop_sequence")}
    yield "message_delta", {"type": "message_delta", "delta": end, "usage": usage}
    yield "message_stop", {"type": "message_stop"}


def generate_content_events(answer: Any) -> Events:
    """Of Google's ``generateContent``; its stream without ``alt=sse`` is a list of the same."""
    parts = answer if isinstance(answer, list) else [answer]
    if not parts or not all(
        isinstance(part, dict) and ("candidates" in part or "usageMetadata" in part) for part in parts
    ):
        raise ValueError(f"an answer without candidates: {_shown(answer)}")
    for part in parts:
        yield "", part


def _shown(answer: Any) -> str:
    return json.dumps(answer)[:200]
