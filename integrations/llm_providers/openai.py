"""The OpenAI chat protocol: OpenAI itself, and everything that speaks it at another address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from .capabilities import takes_effort, takes_temperature
from .conversation import call_presentable
from .credentials import OPENAI_URL, endpoint_parse
from .endpoint_http import AsEvents, EndpointClient
from .failures import Wording
from .openai_failures import openai_failure
from .plain_answers import arguments_write, chat_completion_events
from .types import SHORT_OUTPUT_TOKENS, CallFailure, ModelSpec

WORDING = Wording("the OpenAI chat protocol", "most end in /v1")


class _LeanChatOpenAI(ChatOpenAI):
    """Hands the conversation past the client library's type-driven copy of it.

    That copy only renames keys, none of which occur here, and takes 35 ms of CPU for two hundred messages, each time.
    """

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        for message in payload.get("messages", ()):
            if message.get("tool_calls"):
                message["tool_calls"] = [_call_sent(call) for call in message["tool_calls"]]
        moved = {name: payload[name] for name in ("messages", "tools") if name in payload}
        return payload | dict.fromkeys(moved, ()) | {"extra_body": (payload.get("extra_body") or {}) | moved}

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], *rest: Any, **more: Any
    ) -> ChatGenerationChunk | None:
        for choice in chunk.get("choices") or ():
            arguments_write(choice.get("delta"))
        return super()._convert_chunk_to_generation_chunk(chunk, *rest, **more)

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        if isinstance(response, BaseModel):
            response = response.model_dump(warnings=False)
            for choice in response.get("choices") or ():
                arguments_write(choice.get("message"))
        return super()._create_chat_result(response, generation_info)


def _call_sent(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    name, arguments = call_presentable(function["name"] or "", function["arguments"] or "{}")
    return call | {"function": {"name": name, "arguments": arguments}}


def build(spec: ModelSpec) -> BaseChatModel:
    """A client of the endpoint; nothing is sent yet."""
    return _LeanChatOpenAI(
        **openai_arguments(spec, chat_completion_events),
        use_responses_api=False,
        stream_usage="no_stream_options" not in spec.quirks,
        reasoning_effort=spec.effort if takes_effort(spec) else None,
    )


def openai_arguments(spec: ModelSpec, as_events: AsEvents) -> dict[str, Any]:
    """What a client of either of OpenAI's protocols is built with."""
    endpoint = endpoint_parse(spec.base_url)
    if endpoint is None:
        raise ValueError(f"not a canonical address: {spec.base_url!r}")
    timeout = httpx2.Timeout(connect=spec.connect_timeout_s, read=spec.idle_timeout_s, write=60.0, pool=60.0)
    key = spec.api_key.reveal()

    async def api_key() -> str:
        return key

    return {
        "model": spec.model,
        "base_url": spec.base_url,
        # A coroutine rather than a string: with a string, a second, synchronous client is built, and never used.
        "api_key": api_key,
        "disable_streaming": not spec.stream or "no_stream" in spec.quirks,
        "temperature": spec.temperature if takes_temperature(spec) else None,
        "max_retries": 0,  # the gateway retries: it knows what a try may cost
        "timeout": timeout,
        "stream_chunk_timeout": None,  # the gateway watches for silence, at a tenth of the CPU
        "http_async_client": EndpointClient(
            endpoint=endpoint, timeout=timeout, headers={"authorization"}, home=OPENAI_URL, as_events=as_events
        ),
    }


async def close(model: BaseChatModel) -> None:
    await model.root_async_client.close()  # type: ignore[attr-defined]


def bind(model: BaseChatModel, spec: ModelSpec, tools: Sequence[dict[str, Any]]) -> Runnable[Any, Any]:
    """The model with these tools at hand, in OpenAI's own form."""
    return model.bind_tools(list(tools)) if tools else model


def call_arguments(
    spec: ModelSpec, *, output_tokens: int, session: str, reply_schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Arguments of one call: its output limit by the name that the endpoint understands, a key that keeps a session's
    calls at one cache, and the shape of the reply."""
    if "short_output" in spec.quirks:
        output_tokens = min(output_tokens, SHORT_OUTPUT_TOKENS)
    body: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    # OpenAI's newer models know only `max_completion_tokens` (LangChain makes that of `max_tokens`). Other servers of
    # the protocol know `max_tokens`, and some would ignore the former, and with it the limit that was reserved.
    if (spec.base_url == OPENAI_URL) != ("other_max_tokens" in spec.quirks):
        arguments["max_tokens"] = output_tokens
    else:
        body["max_tokens"] = output_tokens
    if spec.base_url == OPENAI_URL and session and "no_cache_key" not in spec.quirks:
        body["prompt_cache_key"] = session
    if reply_schema is not None and (shape := reply_format(spec, reply_schema)) is not None:
        body["response_format"] = shape
    return arguments | ({"extra_body": body} if body else {})


def reply_format(spec: ModelSpec, schema: dict[str, Any]) -> dict[str, Any] | None:
    """``response_format`` in the strictest form that the endpoint has not refused."""
    if "no_json_schema" not in spec.quirks:
        return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    return {"type": "json_object"} if "no_json_object" not in spec.quirks else None


def is_complete(chunks: Sequence[AIMessageChunk]) -> bool:
    """Whether the reply came to its end: the endpoint says why it stopped, or at least what it took."""
    return any(chunk.response_metadata.get("finish_reason") or chunk.usage_metadata for chunk in chunks)


def failure(spec: ModelSpec, error: Exception) -> CallFailure | None:
    """What an exception out of a call means. None: it comes from elsewhere."""
    return openai_failure(spec, error, WORDING)
