"""A model that plays a recorded dialogue: the demonstration's, and the one of the tests.

It is a model like any other to everything above it. What it says depends on the request (who asks, for which task,
what the tools answered) and not on how often it was asked, so a session that was interrupted goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_ai_message_chunks
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from .errors import RecordingMissing
from .recording import Entry, Recording, Reply, recording_load, recording_path
from .types import CallFailure, ModelSpec

_ROLE = re.compile(r"\s*You are Archon's (?P<role>[\w-]+)")
_WORDS = re.compile(r"\s*\S+\s*")
#: Bytes of a conversation that count as a token where the recording gives no usage.
BYTES_PER_TOKEN = 4
_SHOWN = 400


def build(spec: ModelSpec) -> BaseChatModel:
    """The model of a specification; reads and checks the recording."""
    return ScriptedChatModel.of(recording_load(recording_path(spec.model)))


async def close(model: BaseChatModel) -> None:
    """Nothing is open."""


def bind(model: BaseChatModel, spec: ModelSpec, tools: Sequence[dict[str, Any]]) -> Runnable[Any, Any]:
    """The model with these tools at hand."""
    return model.bind_tools(list(tools)) if tools else model


def call_arguments(
    spec: ModelSpec, *, output_tokens: int, session: str, reply_schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    """None: a recorded reply is as long as it is."""
    return {}


def is_complete(chunks: Sequence[AIMessageChunk]) -> bool:
    """Whether the reply came to its end."""
    return any(chunk.response_metadata.get("finish_reason") for chunk in chunks)


def failure(spec: ModelSpec, error: BaseException) -> CallFailure | None:
    """What an error of this model means, or None if it is not one of its errors."""
    if isinstance(error, RecordingMissing):
        return CallFailure(kind="recording_missing", message=error.message, next_step=error.next_step)
    return None


class _Request:
    """A conversation as the conditions of a recording see it."""

    def __init__(self, messages: Sequence[BaseMessage], tools: frozenset[str]) -> None:
        self._messages = messages
        self.tools = tools
        system = str(messages[0].text) if messages and isinstance(messages[0], SystemMessage) else ""
        named = _ROLE.match(system)
        self.role = named["role"] if named else ""
        self.task = next((str(m.text) for m in messages if isinstance(m, HumanMessage)), "")
        self.user = next((str(m.text) for m in reversed(messages) if isinstance(m, HumanMessage)), "")
        last = messages[-1] if messages else None
        self.last_result = str(last.text) if isinstance(last, ToolMessage) else None
        self.last_tool = self._tool_name(last) if isinstance(last, ToolMessage) else None

    @cached_property
    def transcript(self) -> str:
        """Everything after the system message: text, results, and calls as ``name {json arguments}``."""
        lines: list[str] = []
        for message in self._messages:
            if isinstance(message, SystemMessage):
                continue
            lines.append(str(message.text))
            if isinstance(message, AIMessage):
                lines += [f"{call['name']} {json.dumps(call['args'])}" for call in message.tool_calls]
        return "\n".join(lines)

    def _tool_name(self, result: ToolMessage) -> str | None:
        for message in reversed(self._messages):
            if isinstance(message, AIMessage):
                for call in message.tool_calls:
                    if call["id"] == result.tool_call_id:
                        return call["name"]
        return result.name


class ScriptedChatModel(BaseChatModel):
    """Plays a :class:`Recording`. Raises :class:`RecordingMissing` for a request that it has no entry for."""

    tool_names: frozenset[str] = frozenset()
    _recording: Recording = PrivateAttr()

    @classmethod
    def of(cls, recording: Recording) -> ScriptedChatModel:
        model = cls()
        model._recording = recording
        return model

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        names = frozenset(convert_to_openai_tool(tool)["function"]["name"] for tool in tools)
        return self.model_copy(update={"tool_names": names})

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        entry, reply = self._answer(messages)
        for chunk in _chunks(entry, reply, messages):
            if entry.delay_s:
                await asyncio.sleep(entry.delay_s)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        entry, reply = self._answer(messages)
        for chunk in _chunks(entry, reply, messages):
            if entry.delay_s:
                time.sleep(entry.delay_s)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        entry, reply = self._answer(messages)
        parts = [chunk.message for chunk in _chunks(entry, reply, messages)]
        whole = add_ai_message_chunks(*(part for part in parts if isinstance(part, AIMessageChunk)))
        message = AIMessage(content=whole.content, tool_calls=whole.tool_calls, usage_metadata=whole.usage_metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop)

    def _answer(self, messages: Sequence[BaseMessage]) -> tuple[Entry, Reply]:
        request = _Request(messages, self.tool_names)
        answer = self._recording.answer(request)
        if answer is None:
            raise RecordingMissing(
                f"the recording {self._recording.path.name} has no answer to this request:\n{_shown(request)}",
                next_step="A recording only answers what it was made for. Use a real model for anything else "
                "(see docs/reference/scripted-models.md).",
            )
        return answer


def _chunks(entry: Entry, reply: Reply, messages: Sequence[BaseMessage]) -> Iterator[ChatGenerationChunk]:
    for word in _WORDS.findall(reply.text) if reply.text.strip() else ():
        yield ChatGenerationChunk(message=AIMessageChunk(content=word))
    arguments = [json.dumps(call.arguments) for call in reply.calls]
    written = len(reply.text) + sum(len(text) for text in arguments)
    calls = [
        tool_call_chunk(name=call.name, args=text, id=f"call_{uuid.uuid4().hex[:24]}", index=index)
        for index, (call, text) in enumerate(zip(reply.calls, arguments, strict=True))
    ]
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content="",
            tool_call_chunks=calls,
            usage_metadata=_usage(entry, messages, written),
            response_metadata={"model_name": "scripted", "finish_reason": "tool_calls" if calls else "stop"},
            chunk_position="last",
        )
    )


def _usage(entry: Entry, messages: Sequence[BaseMessage], written: int) -> UsageMetadata:
    read = entry.input_tokens
    if read is None:
        read = sum(len(m.content) for m in messages if isinstance(m.content, str)) // BYTES_PER_TOKEN
    made = entry.output_tokens if entry.output_tokens is not None else written // BYTES_PER_TOKEN + 1
    return UsageMetadata(input_tokens=read, output_tokens=made, total_tokens=read + made)


def _shown(request: _Request) -> str:
    lines = [f"  role: {request.role or '(none found)'}", f"  task: {request.task[:_SHOWN]!r}"]
    if request.user != request.task:
        lines.append(f"  last message of the user: {request.user[:_SHOWN]!r}")
    if request.last_tool is not None or request.last_result is not None:
        lines.append(f"  last tool: {request.last_tool}, result: {(request.last_result or '')[:_SHOWN]!r}")
    lines.append(f"  tools: {', '.join(sorted(request.tools)) or '(none)'}")
    return "\n".join(lines)
