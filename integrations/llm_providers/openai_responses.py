"""OpenAI's Responses protocol, without state at the vendor: what a model thought goes back to it, encrypted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI

from . import openai
from .capabilities import reasons, takes_effort
from .failures import Wording
from .openai_failures import openai_failure
from .plain_answers import response_events
from .types import SHORT_OUTPUT_TOKENS, CallFailure, ModelSpec

WORDING = Wording("the OpenAI Responses protocol", "most end in /v1")
close = openai.close


def build(spec: ModelSpec) -> BaseChatModel:
    """A client of the endpoint; nothing is sent yet."""
    thinks = takes_effort(spec) and (reasons(spec) or spec.effort is not None)
    return ChatOpenAI(
        **openai.openai_arguments(spec, response_events),
        use_responses_api=True,
        output_version="responses/v1",
        store=False,
        include=["reasoning.encrypted_content"] if thinks else None,
        reasoning={"effort": spec.effort} if thinks and spec.effort is not None else None,
    )


def bind(model: BaseChatModel, spec: ModelSpec, tools: Sequence[dict[str, Any]]) -> Runnable[Any, Any]:
    """The model with these tools at hand."""
    # Not strict: that would need every argument to be required. The protocol wants to be told.
    loose = [{**tool, "function": {**tool["function"], "strict": False}} for tool in tools]
    return model.bind_tools(loose) if tools else model


def call_arguments(
    spec: ModelSpec, *, output_tokens: int, session: str, reply_schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Arguments of one call."""
    if "short_output" in spec.quirks:
        output_tokens = min(output_tokens, SHORT_OUTPUT_TOKENS)
    # The protocol knows no lower limit.
    body: dict[str, Any] = {"max_output_tokens": max(16, output_tokens)}
    if session and "no_cache_key" not in spec.quirks:
        body["prompt_cache_key"] = session
    if reply_schema is not None and (shape := openai.reply_format(spec, reply_schema)) is not None:
        body["text"] = {"format": {"type": shape["type"], **shape.get("json_schema", {})}}
    return {"extra_body": body}


def is_complete(chunks: Sequence[AIMessageChunk]) -> bool:
    """Whether the reply came to its end."""
    return any(chunk.response_metadata.get("status") in ("completed", "incomplete") for chunk in chunks)


def failure(spec: ModelSpec, error: Exception) -> CallFailure | None:
    """What an exception out of a call means. None: it comes from elsewhere."""
    return openai_failure(spec, error, WORDING)
