"""What one call asks for, by protocol: limits, effort, hints for the vendor's cache, the shape of the reply."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.llm_providers import adapter_of
from integrations.llm_providers.types import ModelSpec, Quirk, Secret

OPENAI = "https://api.openai.com/v1"
ELSEWHERE = "http://127.0.0.1:1/v1"
SHAPE = {"type": "object"}


def arguments(name: str, url: str = ELSEWHERE, *, tokens: int = 9000, shape: Any = None, **more: Any) -> dict[str, Any]:
    provider, _, model = name.partition(":")
    quirks: frozenset[Quirk] = frozenset(more.pop("quirks", ()))
    spec = ModelSpec(provider=provider, model=model, base_url=url, api_key=Secret("k"), quirks=quirks, **more)
    return adapter_of(spec).call_arguments(spec, output_tokens=tokens, session="s", reply_schema=shape)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (arguments("openai:gpt-5", OPENAI), {"max_tokens": 9000, "extra_body": {"prompt_cache_key": "s"}}),
        (arguments("openai:gpt-5", OPENAI, quirks=["no_cache_key"]), {"max_tokens": 9000}),
        (arguments("openai:x"), {"extra_body": {"max_tokens": 9000}}),
        (arguments("openai:x", quirks=["other_max_tokens"]), {"max_tokens": 9000}),
        (arguments("openai:x", quirks=["short_output"]), {"extra_body": {"max_tokens": 4096}}),
        (
            arguments("openai-responses:gpt-5", tokens=5),
            {"extra_body": {"max_output_tokens": 16, "prompt_cache_key": "s"}},
        ),
        (arguments("anthropic:claude-sonnet-4-5"), {"max_tokens": 9000}),
        (
            arguments("anthropic:claude-sonnet-4-5", effort="high"),
            # Something is left for the reply.
            {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 7976}},
        ),
        (arguments("anthropic:claude-sonnet-4-5", effort="high", tokens=2000), {"max_tokens": 2000}),
        (
            arguments("anthropic:claude-opus-4-6", effort="low"),
            {"max_tokens": 9000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (arguments("anthropic:claude-opus-4-6", effort="low", quirks=["no_effort"]), {"max_tokens": 9000}),
        (arguments("anthropic:claude-3-5-haiku", effort="low"), {"max_tokens": 9000}),
        (arguments("gemini:gemini-2.5-pro", effort="low"), {"max_output_tokens": 9000, "thinking_budget": 1024}),
        (arguments("gemini:gemini-2.5-pro", effort="high"), {"max_output_tokens": 9000, "thinking_budget": 4500}),
        (arguments("gemini:gemini-3-pro", effort="high"), {"max_output_tokens": 9000}),
    ],
)
def test_a_call_asks_for(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert given == expected


def test_the_shape_of_a_reply_is_asked_for_as_strictly_as_the_endpoint_takes_it() -> None:
    strict = {"type": "json_schema", "json_schema": {"name": "reply", "schema": SHAPE}}
    assert arguments("openai:x", shape=SHAPE)["extra_body"]["response_format"] == strict
    loose = arguments("openai:x", shape=SHAPE, quirks=["no_json_schema"])
    assert loose["extra_body"]["response_format"] == {"type": "json_object"}
    assert "response_format" not in str(arguments("openai:x", shape=SHAPE, quirks=["no_json_schema", "no_json_object"]))
    told = arguments("openai-responses:x", shape=SHAPE)["extra_body"]["text"]
    assert told == {"format": {"type": "json_schema", "name": "reply", "schema": SHAPE}}
    assert arguments("gemini:gemini-2.5-pro", shape=SHAPE)["response_json_schema"] == SHAPE
    # By the prompt alone.
    assert arguments("anthropic:claude-sonnet-4-5", shape=SHAPE) == {"max_tokens": 9000}
