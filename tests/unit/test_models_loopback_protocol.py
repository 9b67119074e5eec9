"""The loopback server refuses what the real API refuses: a client that passes there has been tested."""

from __future__ import annotations

from typing import Any

import pytest

from tests.loopback.openai_schema import request_problem

USER = {"role": "user", "content": "Hi"}


def call(*ids: str) -> dict[str, Any]:
    function = {"name": "read", "arguments": "{}"}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": i, "type": "function", "function": function} for i in ids],
    }


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "x"}


def request(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), **more}


@pytest.mark.parametrize(
    "body",
    [
        request(USER),
        request({"role": "system", "content": "s"}, USER, call("1", "2"), result("2"), result("1"), USER),
        request(USER, stream=True, stream_options={"include_usage": True}, max_completion_tokens=5),
        request(USER, tools=[{"type": "function", "function": {"name": "read", "parameters": {}}}]),
        request({"role": "user", "content": [{"type": "text", "text": "Hi"}]}),
    ],
)
def test_valid_requests_pass(body: dict[str, Any]) -> None:
    assert request_problem(body) is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"messages": [USER]}, "'model' is a required property"),
        (request(), "messages"),
        (request(USER, colour="red"), "colour"),
        (request(USER, max_tokens=0), "max_tokens"),
        (request(USER, max_tokens=1, max_completion_tokens=1), "not together"),
        (request(USER, stream_options={"include_usage": True}), "only allowed when stream"),
        (request(USER, tools=[]), "tools"),
        (request(USER, tools=[{"type": "function", "function": {"name": "a b"}}]), "a b"),
        (request({"role": "robot", "content": "x"}), "unknown role 'robot'"),
        (request({"role": "user"}), "'content' is a required property"),
        (request(USER, {"role": "assistant", "content": None}), "needs content or tool_calls"),
        (request(USER, call("1")), "without a response: 1"),
        (request(USER, call("1"), USER), "missing: 1"),
        (request(USER, call("1", "2"), result("1"), call("3"), result("3")), "missing: 2"),
        (request(USER, result("1")), "must be a response"),
        (request(USER, call("1"), result("1"), result("1")), "must be a response"),
        (request(USER, call("1", "1"), result("1")), "ids have to be unique"),
        (None, "request"),
    ],
)
def test_invalid_requests_are_refused(body: Any, problem: str) -> None:
    assert problem in (request_problem(body) or "")
