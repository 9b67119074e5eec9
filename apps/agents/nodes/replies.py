"""Reading a model's reply: which calls it proposes, whether it is answered yet, and how it is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from apps.agents.tools.base import text_cut
from apps.core.storable import json_ordered, json_storable, text_storable
from apps.usage.types import Usage
from integrations.llm_providers.blocks import calls_renamed

#: What an event shows of a text that the model wrote, in characters.
EVENT_TEXT = 8_000
#: The longest name and id of a call that every provider takes back.
NAME_LENGTH = 64
CALL_ID_LENGTH = 64
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True)
class ProposedCall:
    """A tool call as the model proposed it; ``problem`` when its arguments aren't JSON."""

    provider_call_id: str
    name: str
    arguments: Mapping[str, Any]
    problem: str = ""


def reply_open(transcript: Sequence[BaseMessage]) -> bool:
    """Whether the last reply still has to be answered: by the results of its calls, or by a word when it has none."""
    for answered, message in enumerate(reversed(transcript)):
        if isinstance(message, AIMessage):
            return answered < max(1, len(calls_proposed(message)))
    return False


def message_normalise(message: AIMessage, position: int) -> AIMessage:
    """The reply as it is stored and sent back: plain, storable, each call with an id of its own."""
    calls, seen = [], set()
    renamed: dict[str, str] = {}
    for ordinal, call in enumerate([*message.tool_calls, *message.invalid_tool_calls]):
        call_id = text_storable(call.get("id") or "")
        if not call_id or call_id in seen or len(call_id) > CALL_ID_LENGTH:
            call_id = f"call_{position}_{ordinal}"
        seen.add(call_id)
        renamed.setdefault(str(call.get("id")), call_id)
        # Providers refuse a conversation in which a tool has any other name.
        name = _NOT_IN_NAMES.sub("_", call.get("name") or "")[:NAME_LENGTH] or "unnamed"
        calls.append({**call, "id": call_id, "name": name})
    valid = json_storable(calls[: len(message.tool_calls)])
    invalid = json_storable(calls[len(message.tool_calls) :])
    return AIMessage(
        # Ordered, so that a worker that reads it from its row sends the vendor what this one sends.
        content=json_ordered(json_storable(calls_renamed(message.content, renamed))),
        tool_calls=[{**call, "args": json_ordered(call["args"])} for call in valid],
        invalid_tool_calls=invalid,
        # Whose blocks the content has, where it has some.
        additional_kwargs=json_storable(message.additional_kwargs),
        usage_metadata=message.usage_metadata,
    )


def calls_proposed(reply: AIMessage) -> list[ProposedCall]:
    """The reply's calls in order, those whose arguments could not be read last."""
    proposed = [ProposedCall(str(call["id"]), call["name"], call["args"]) for call in reply.tool_calls]
    for broken in reply.invalid_tool_calls:
        problem = f"{broken.get('error') or 'the call cannot be read'}: {(broken.get('args') or '')[:500]}"
        proposed.append(ProposedCall(str(broken["id"]), broken.get("name") or "", {}, problem))
    return proposed


def usage_shown(usage: Usage) -> dict[str, Any]:
    """What a call took, as events tell it."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cost_usd": usage.cost_usd,
        "estimated": usage.estimated,
        "priced": usage.priced,
    }


def shown(value: Any) -> Any:
    """What an event carries of a reply: long texts are cut, since the conversation's rows hold them whole."""
    if isinstance(value, str):
        return text_cut(value, EVENT_TEXT)
    if isinstance(value, Mapping):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value
