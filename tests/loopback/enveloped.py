"""A model that cannot call tools: it reads them in its instructions, and writes its calls as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .wire import Reply, Request, text_of

_TOOL = re.compile(r"^## ([a-zA-Z0-9_-]+)$", re.MULTILINE)
_RESULT = re.compile(r"^Result of ([a-zA-Z0-9_-]+)(?: \(failed\))?:\n", re.MULTILINE)


class Enveloped:
    """Has ``agents`` see an ordinary conversation, and says what they call in an envelope."""

    def __init__(self, agents: Callable[[Request], Reply], *, fenced: bool = False) -> None:
        self._agents = agents
        self._fenced = fenced

    def __call__(self, request: Request) -> Reply:
        assert not request.tools, "a model without tools was given some"
        reply = self._agents(_unwrapped(request))
        if reply.failure is not None or reply.raw is not None or not reply.tool_calls:
            return reply
        calls = [
            {"name": call.name, "arguments": call.arguments if not isinstance(call.arguments, str) else {}}
            for call in reply.tool_calls
        ]
        text = json.dumps({"thought": reply.text, "calls": calls}, indent=1)
        if self._fenced:
            text = f"Certainly! Here it is:\n```json\n{text}\n```\nI hope that helps."
        return replace(reply, text=text, tool_calls=())


def _unwrapped(request: Request) -> Request:
    tools = _TOOL.findall(request.system)
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    for index, message in enumerate(request.messages):
        if message["role"] == "assistant":
            said = json.loads(text_of(message))
            waiting = [f"{index}_{place}" for place in range(len(said["calls"]))]
            calls = [
                {"id": call_id, "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])}}
                for call_id, call in zip(waiting, said["calls"], strict=True)
            ]
            said_by = {"role": "assistant", "content": said["thought"]}
            messages.append(said_by | ({"tool_calls": calls} if calls else {}))
        elif message["role"] == "user" and waiting:
            text = text_of(message)
            starts = list(_RESULT.finditer(text))
            assert len(starts) >= len(waiting), f"{len(waiting)} calls, but the results are:\n{text[:500]}"
            ends = [*(match.start() for match in starts[1:]), len(text)]
            for call_id, match, end in zip(waiting, starts, ends, strict=False):
                messages.append(
                    {
                        "role": "tool",
                        "tool_call_id": call_id,
                        "content": text[match.end() : end].removesuffix("\n\n---\n\n"),
                    }
                )
            waiting = []
        else:
            messages.append(message)
    return replace(request, messages=messages, tools=tools)
