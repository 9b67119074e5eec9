"""A streamed reply, put together strictly.

LangChain completes broken JSON of a tool call as well as it can, which would turn a reply that was cut off within a
file's text into a call that writes half a file. Here such a call is invalid, and the caller tells the model so.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, InvalidToolCall, ToolCall
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.tool import tool_call_chunk

from integrations.llm_providers.blocks import ORIGIN, content_of
from integrations.llm_providers.call_arguments import call_arguments_read
from integrations.llm_providers.envelope import envelope_read

#: Of what the vendor says about a reply, what is worth keeping.
_KEPT = ("model_name", "finish_reason")
#: Numbers above those that any server gives.
_FIRST_MOVED = 1_000_000


def message_of(chunks: Sequence[AIMessageChunk], *, seen: Sequence[BaseMessage], origin: str = "") -> AIMessage:
    """The reply that the chunks make up.

    Every call has a name, arguments that are an object, and an id that no message of ``seen`` has used: some servers
    send none, or count from zero in each reply. The others are in ``invalid_tool_calls``, whose ``error`` says why.
    The content is text, or blocks (see ``blocks``) where the model wants some of them back; ``origin`` says whose.
    """
    whole = chunks[0] if len(chunks) == 1 else add_ai_message_chunks(*_calls_apart(chunks))
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    used = _ids_of(seen) if whole.tool_call_chunks else set()
    # By the vendor's id, as blocks of the content name them.
    names: dict[str, str] = {}
    for number, chunk in enumerate(whole.tool_call_chunks):
        call_id, name, text = chunk["id"], chunk["name"] or "", chunk["args"] or ""
        if not call_id or call_id in used:
            call_id = f"call_{uuid.uuid4().hex[:24]}"
        used.add(call_id)
        names.setdefault(chunk["id"] or f"#{number}", call_id)
        arguments, error = call_arguments_read(text)
        if arguments is None or not name:
            invalid.append(
                InvalidToolCall(
                    type="invalid_tool_call",
                    id=call_id,
                    name=name,
                    args=text,
                    error=error or "the call has no name",
                )
            )
        else:
            calls.append(ToolCall(type="tool_call", id=call_id, name=name, args=arguments))
    content = content_of(whole, names)
    return AIMessage(
        content=content,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        additional_kwargs={} if isinstance(content, str) else {ORIGIN: origin},
        response_metadata={name: whole.response_metadata[name] for name in _KEPT if name in whole.response_metadata},
    )


def message_out_of_envelope(message: AIMessage) -> AIMessage:
    """The same reply of a model that wrote its calls as JSON, with the calls in their place."""
    text, written = envelope_read(str(message.text))
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in written:
        call_id = f"call_{uuid.uuid4().hex[:24]}"
        if call.arguments is None:
            invalid.append(
                InvalidToolCall(type="invalid_tool_call", id=call_id, name=call.name, args=call.text, error=call.error)
            )
        else:
            calls.append(ToolCall(type="tool_call", id=call_id, name=call.name, args=call.arguments))
    return AIMessage(
        content=text,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        response_metadata=message.response_metadata,
    )


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """A reply that came in one piece, as the only chunk of a stream."""
    texts = [(call["id"], call["name"], json.dumps(call["args"])) for call in message.tool_calls]
    texts += [(call["id"], call["name"] or "", call["args"] or "") for call in message.invalid_tool_calls]
    return AIMessageChunk(
        content=message.content,
        additional_kwargs=message.additional_kwargs,
        tool_call_chunks=[
            tool_call_chunk(id=call_id, name=name, args=text, index=index)
            for index, (call_id, name, text) in enumerate(texts)
        ],
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
    )


def _calls_apart(chunks: Sequence[AIMessageChunk]) -> list[AIMessageChunk]:
    """The chunks with a number of its own for each call.

    Some servers number every call of a reply with zero and give none an id, and LangChain would make one call of two:
    where a name comes after arguments that are whole, another call has begun.
    """
    apart: list[AIMessageChunk] = []
    given: dict[int, int] = {}
    written: dict[int, str] = {}
    moved = 0
    for chunk in chunks:
        parts = []
        for part in chunk.tool_call_chunks:
            index = part["index"]
            if isinstance(index, int) and not part["id"]:
                if part["name"] and call_arguments_read(written.get(index) or "[]")[0] is not None:
                    moved += 1
                    given[index], written[index] = _FIRST_MOVED + moved, ""
                written[index] = written.get(index, "") + (part["args"] or "")
                part = {**part, "index": given.get(index, index)}
            parts.append(part)
        apart.append(chunk.model_copy(update={"tool_call_chunks": parts}) if moved and parts else chunk)
    return apart


def _ids_of(messages: Sequence[BaseMessage]) -> set[str | None]:
    def ids() -> Iterator[str | None]:
        for message in messages:
            if isinstance(message, AIMessage):
                yield from (call["id"] for call in message.tool_calls)
                yield from (call["id"] for call in message.invalid_tool_calls)

    return set(ids())
