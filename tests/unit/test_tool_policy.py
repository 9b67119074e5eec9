"""The gate before every tool call."""

from __future__ import annotations

import json

import pytest

from apps.agents.tools.base import Risk
from apps.agents.tools.catalogue import TOOLS_BY_ROLE, Offer, tools_for
from apps.agents.tools.definitions import tool_definition
from apps.agents.tools.edit_formats import EDIT_TOOLS
from apps.agents.tools.policy import Allowed, Refused, call_judge


@pytest.mark.parametrize("role", ["planner", "researcher", "reviewer"])
def test_agents_that_only_read_have_no_tool_that_writes(role: str) -> None:
    tools = tools_for(role, Offer(web=True))
    assert not [tool.name for tool in tools.values() if tool.risk == Risk.WRITE]
    assert [tool.name for tool in tools.values() if tool.risk == Risk.EXECUTE] in ([], ["run_checks"])
    refused = call_judge(tools=tools, name="write_file", arguments={"path": "a", "content": "b"})
    assert isinstance(refused, Refused)


def test_every_tool_that_changes_something_is_a_risk() -> None:
    """What the gate, and what runs again after a crash, go by."""
    tools = {tool.name: tool for format in EDIT_TOOLS for tool in tools_for("coder", Offer(format, web=True)).values()}
    changes = {"edit_file", "multi_edit", "write_file", "apply_patch", "move_file", "delete_file"}
    assert {name for name, tool in tools.items() if tool.risk == Risk.WRITE} == changes
    assert {name for name, tool in tools.items() if not tool.may_repeat} == changes | {"run_command"}
    assert tools["web_fetch"].risk == Risk.NETWORK


@pytest.mark.parametrize("role", sorted(TOOLS_BY_ROLE))
def test_the_web_is_offered_only_where_there_are_hosts(role: str) -> None:
    assert "web_fetch" not in tools_for(role)
    assert "web_fetch" in tools_for(role, Offer(web=True))
    refused = call_judge(tools=tools_for(role), name="web_fetch", arguments={"url": "https://example.com"})
    assert isinstance(refused, Refused)


def test_an_unknown_tool_is_refused_with_the_names_that_exist() -> None:
    refused = call_judge(tools=tools_for("coder"), name="bash", arguments={})
    assert isinstance(refused, Refused)
    assert "run_command" in refused.reason


def test_wrong_arguments_are_told_by_name() -> None:
    refused = call_judge(tools=tools_for("coder"), name="read_file", arguments={"file": "a.py", "start_line": 0})
    assert isinstance(refused, Refused)
    assert "path: Field required" in refused.reason
    assert "file: Extra inputs" in refused.reason
    assert "start_line" in refused.reason


def test_right_arguments_come_out_typed() -> None:
    allowed = call_judge(tools=tools_for("coder"), name="read_file", arguments={"path": "a.py", "start_line": "3"})
    assert isinstance(allowed, Allowed)
    assert allowed.arguments.model_dump() == {"path": "a.py", "start_line": 3, "end_line": 0}


def test_a_null_stands_for_the_default_where_there_is_one() -> None:
    allowed = call_judge(tools=tools_for("coder"), name="read_file", arguments={"path": "a.py", "start_line": None})
    assert isinstance(allowed, Allowed)
    assert allowed.arguments.model_dump() == {"path": "a.py", "start_line": 1, "end_line": 0}
    refused = call_judge(tools=tools_for("coder"), name="read_file", arguments={"path": None})
    assert isinstance(refused, Refused)
    assert "path" in refused.reason


@pytest.mark.parametrize("role", sorted(TOOLS_BY_ROLE))
def test_tool_definitions_are_plain_json_schema(role: str) -> None:
    offered = [tool for format in EDIT_TOOLS for tool in tools_for(role, Offer(format, web=True)).values()]
    for tool in offered:
        text = json.dumps(tool_definition(tool))
        # What small models and strict servers stumble over.
        assert not [word for word in ("$ref", "anyOf", "oneOf", '"null"') if word in text]
        assert tool_definition(tool)["function"]["parameters"]["type"] == "object"
        assert tool_definition(tool)["function"]["description"]
