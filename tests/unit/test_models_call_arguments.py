"""What a model sends as the arguments of a call is JSON that can be handled, or is told not to be."""

from __future__ import annotations

import json

import pytest

from integrations.llm_providers.call_arguments import MAX_DEPTH, call_arguments_read


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", [1, 10, MAX_DEPTH])
def test_arguments_as_deep_as_any_tool_takes_are_read(depth: int) -> None:
    assert call_arguments_read(nested(depth)) == (json.loads(nested(depth)), "")


@pytest.mark.parametrize(
    "text", [nested(MAX_DEPTH + 1), nested(700), '{"a":' + "[" * 700 + "]" * 700 + "}", nested(200_000)]
)
def test_deeper_ones_are_refused_with_the_reason(text: str) -> None:
    arguments, problem = call_arguments_read(text)
    assert arguments is None
    assert "deep" in problem or "recursion" in problem
