"""docs/reference/tools.md has every tool with its arguments and defaults, and which role has which."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from apps.agents.tools.base import OBSERVATION_LIMIT, Tool
from apps.agents.tools.catalogue import EDITORS, TOOLS_BY_ROLE, Offer, tools_for
from apps.agents.tools.edit_formats import EDIT_TOOLS, FAMILIES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "tools.md").read_text()
TOOLS: dict[str, Tool[Any]] = {
    name: tool
    for role in TOOLS_BY_ROLE
    for format in EDIT_TOOLS
    for name, tool in tools_for(role, Offer(format, web=True)).items()
}


def _sections() -> dict[str, str]:
    parts = re.split(r"^## `(\w+)`$", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_tool_has_a_section_and_no_other() -> None:
    assert set(_sections()) == set(TOOLS)


def test_roles_have_the_tools_that_the_page_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$", PAGE.split("\n## ")[0], re.MULTILINE)
    shown = {role: re.findall(r"`(\w+)`", tools) for role, tools in rows}
    assert shown == {role: [tool.name for tool in tools] for role, tools in TOOLS_BY_ROLE.items()}
    assert sorted(EDITORS) == ["coder"]


def test_formats_have_the_tools_and_the_families_that_the_page_says() -> None:
    rows = re.findall(r"^\| `([\w+]+)` \| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|$", PAGE.split("\n## ")[0], re.MULTILINE)
    shown = {format: re.findall(r"`(\w+)`", tools) for format, tools, _ in rows}
    assert shown == {format: [tool.name for tool in tools] for format, tools in EDIT_TOOLS.items()}
    patterns = {format: re.findall(r"`([^`]+)`", families) for format, _, families in rows}
    for pattern, format in FAMILIES:
        assert pattern in patterns[format] or (pattern == "*" and "every other" in PAGE)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_arguments_and_defaults_are_those_of_the_tool(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", _sections()[name], re.MULTILINE)
    fields = TOOLS[name].arguments.model_fields
    assert dict(rows) == {field: _default_shown(info.default) for field, info in fields.items()}


def _default_shown(default: object) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None or default == ():
        return "none"
    if default == "":
        return "empty"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def test_the_limit_of_an_observation_is_the_real_one() -> None:
    assert f"{OBSERVATION_LIMIT:,} characters" in PAGE
