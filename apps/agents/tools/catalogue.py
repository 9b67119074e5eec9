"""Which agent has which tools."""

from __future__ import annotations

from typing import Any

from apps.agents.tools.base import Tool
from apps.agents.tools.commands import RUN_CHECKS, RUN_COMMAND
from apps.agents.tools.conversation import ASK_USER, FINISH, SUBMIT_PLAN
from apps.agents.tools.files import EDIT_FILE, LIST_FILES, READ_FILE, WRITE_FILE
from apps.agents.tools.search import SEARCH

_LOOK = (LIST_FILES, READ_FILE, SEARCH)
TOOLS_BY_ROLE: dict[str, tuple[Tool[Any], ...]] = {
    # A planner, researcher or reviewer has no tool that changes anything: a prompt that asks it not to is no promise.
    "planner": (*_LOOK, ASK_USER, SUBMIT_PLAN),
    "researcher": (*_LOOK, ASK_USER, FINISH),
    "reviewer": (*_LOOK, RUN_CHECKS, FINISH),
    "coder": (*_LOOK, EDIT_FILE, WRITE_FILE, RUN_COMMAND, RUN_CHECKS, ASK_USER, FINISH),
}


def tools_for(role: str) -> dict[str, Tool[Any]]:
    """The role's tools by name."""
    return {tool.name: tool for tool in TOOLS_BY_ROLE[role]}
