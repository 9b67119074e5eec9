"""What is known of models by their names, and tools' schemas in Gemini's dialect."""

from __future__ import annotations

from typing import Any

import pytest

from apps.agents.tools.catalogue import tools_for
from apps.agents.tools.definitions import tool_definition
from integrations.llm_providers.capabilities import capabilities_of, takes_effort, takes_temperature, tool_call_style
from integrations.llm_providers.gemini_schema import gemini_schema, gemini_tool
from integrations.llm_providers.limits import output_limit
from integrations.llm_providers.types import ModelSpec, Quirk


def spec_of(name: str, **more: Any) -> ModelSpec:
    provider, _, model = name.partition(":")
    return ModelSpec(provider=provider, model=model, max_output_tokens=output_limit(model), **more)


@pytest.mark.parametrize(
    ("name", "sees"),
    [
        ("openai:gpt-4o-mini", True), ("openai:gpt-4.1", True), ("openai:gpt-5-mini", True), ("openai:o3", True),
        ("openai:o3-mini", False), ("openai:gpt-3.5-turbo", False), ("openai:gpt-4", False),
        ("anthropic:claude-3-haiku-20240307", True), ("anthropic:claude-sonnet-5", True), ("anthropic:claude-2", False),
        ("gemini:gemini-2.5-flash", True), ("ollama:llava:13b", True), ("ollama:qwen2.5-vl:7b", True),
        ("openrouter:mistralai/pixtral-12b", True), ("ollama:qwen2.5-coder:7b", False), ("ollama:llama3.1:8b", False),
    ],
)  # fmt: skip
def test_who_can_see(name: str, sees: bool) -> None:
    assert capabilities_of(spec_of(name)).vision is sees
    assert capabilities_of(spec_of(name, vision=not sees)).vision is not sees
    assert not capabilities_of(spec_of(name, vision=True, quirks=frozenset[Quirk]({"no_images"}))).vision


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("openai:gpt-5-mini", "native"), ("ollama:llama3.1:8b", "native"), ("ollama:qwen2.5-coder:7b", "native"),
        ("ollama:codellama:7b", "envelope"), ("ollama:gemma2:9b", "envelope"), ("ollama:deepseek-r1:8b", "envelope"),
        ("openrouter:google/gemma-2-9b-it", "envelope"), ("ollama:phi3:mini", "envelope"),
        ("gemini:gemini-2.5-pro", "native"),
    ],
)  # fmt: skip
def test_who_is_weak_at_tools(name: str, style: str) -> None:
    assert tool_call_style(spec_of(name)) == style
    other: Any = "native" if style == "envelope" else "envelope"
    assert tool_call_style(spec_of(name, tool_calls=other)) == other
    # What an endpoint refuses isn't asked of it, whatever was configured.
    assert tool_call_style(spec_of(name, tool_calls="native", quirks=frozenset[Quirk]({"no_tools"}))) == "envelope"


@pytest.mark.parametrize(
    ("name", "effort", "temperature"),
    [
        ("openai:gpt-4o", False, True), ("openai:gpt-5-mini", True, False), ("openai:o4-mini", True, False),
        ("openai:gpt-5-chat-latest", False, True), ("openai-responses:gpt-5", True, False),
        ("anthropic:claude-3-5-sonnet-20241022", False, True), ("anthropic:claude-3-7-sonnet-20250219", True, True),
        ("anthropic:claude-sonnet-4-5", True, True), ("anthropic:claude-opus-4-6", True, True),
        ("gemini:gemini-2.5-flash", True, True), ("gemini:gemini-2.0-flash", False, True),
        ("gemini:gemini-3-pro-preview", True, True), ("ollama:gpt-oss:20b", True, True),
    ],
)  # fmt: skip
def test_what_models_can_be_told(name: str, effort: bool, temperature: bool) -> None:
    assert (takes_effort(spec_of(name)), takes_temperature(spec_of(name))) == (effort, temperature)


def test_a_model_of_anthropic_that_thinks_takes_no_temperature() -> None:
    assert not takes_temperature(spec_of("anthropic:claude-sonnet-4-5", effort="low"))


@pytest.mark.parametrize(
    ("name", "context", "output"),
    [
        ("anthropic:claude-sonnet-4-5", 200_000, 16_384), ("anthropic:claude-3-haiku", 200_000, 4_096),
        ("gemini:gemini-2.5-pro", 1_048_576, 16_384), ("gemini:gemini-2.0-flash", 1_000_000, 8_192),
        ("openai-responses:gpt-5-mini", 400_000, 16_384), ("openai:gpt-4", 8_192, 4_096),
        ("ollama:unheard-of", 128_000, 16_384),
    ],
)  # fmt: skip
def test_limits_are_known(name: str, context: int, output: int) -> None:
    known = capabilities_of(spec_of(name))
    assert (known.context_tokens, known.output_tokens) == (context, output)
    assert capabilities_of(spec_of(name, context_tokens=5)).context_tokens == 5


def test_schemas_of_all_tools_are_translated() -> None:
    refused = ("additionalProperties", "$ref", "$defs", "anyOf", "const", "oneOf", "exclusive")
    for role in ("coder", "planner", "reviewer", "researcher"):
        for tool in tools_for(role).values():
            shown = str(gemini_tool(tool_definition(tool)))
            assert not [word for word in refused if f"'{word}" in shown], shown


def test_a_schema_keeps_its_meaning() -> None:
    schema = {
        "$defs": {"Item": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "description": "Some."},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Maybe"},
            "kind": {"const": "a"},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "level": {"enum": [1, 2]},
            "loose": {},
        },
        "required": ["items", "gone"],
    }
    assert gemini_schema(schema) == {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "description": "Some.",
                "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            },
            "maybe": {"type": "string", "nullable": True},
            "kind": {"type": "string", "enum": ["a"]},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "level": {"type": "string", "enum": ["1", "2"]},
            "loose": {"type": "string"},
        },
        "required": ["items"],
    }


def test_a_schema_that_holds_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    assert gemini_schema({"$defs": {"Node": node}, "$ref": "#/$defs/Node"})["type"] == "object"
