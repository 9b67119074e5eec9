"""One gate before every tool call, whoever provides the tool.

It judges by the tools that the model was offered, which follow from its role, its form of edits and the project's
network policy: it may call what it was given, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from apps.agents.tools.base import Arguments, Tool


@dataclass(frozen=True)
class Allowed:
    tool: Tool[Any]
    arguments: Arguments


@dataclass(frozen=True)
class Refused:
    """The call does not run; the reason goes back to the model."""

    reason: str


def call_judge(*, tools: Mapping[str, Tool[Any]], name: str, arguments: Mapping[str, Any]) -> Allowed | Refused:
    """Whether this call may be made with these tools, with its arguments checked."""
    tool = tools.get(name)
    if tool is None:
        return Refused(f"there is no tool named {name!r}; yours are {', '.join(tools)}")
    try:
        return Allowed(tool, tool.arguments.model_validate(arguments))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'arguments'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        return Refused(f"the arguments of {name} are wrong: {problems}")
