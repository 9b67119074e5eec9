"""What a message of a conversation says, as text.

Tools read conversations, and the API process knows the tools by their arguments: this loads no model library.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage


def content_text(message: BaseMessage) -> str:
    """All that a message says, its calls included, as text."""
    lines = [str(message.text)] if str(message.text) else []
    lines += [
        f"{call['name']} {json.dumps(call['args'], ensure_ascii=False)}" for call in _calls(message, "tool_calls")
    ]
    lines += [f"{call.get('name')} {call.get('args')}" for call in _calls(message, "invalid_tool_calls")]
    return "\n".join(lines)


def speaker(message: BaseMessage) -> str:
    """Who says a message, in a word or two."""
    if message.type == "tool":
        return f"result of {message.name or 'a call'}"
    return {"system": "instructions", "ai": "you"}.get(message.type, "user")


def _calls(message: BaseMessage, which: str) -> list[dict[str, Any]]:
    return getattr(message, which, []) if message.type == "ai" else []
