"""Which agent has which tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.agents.tools.base import Tool
from apps.agents.tools.commands import COMMAND_OUTPUT, COMMAND_STOP, RUN_CHECKS, RUN_COMMAND
from apps.agents.tools.conversation import ASK_USER, FINISH, REPORT_BLOCKED
from apps.agents.tools.edit_formats import EDIT_TOOLS
from apps.agents.tools.files import GLOB, LIST_FILES, READ_FILE, READ_IMAGE
from apps.agents.tools.handing_over import ANSWER, SUBMIT_PLAN
from apps.agents.tools.history import GIT_BLAME, GIT_LOG, GIT_SHOW
from apps.agents.tools.knowing import FIND_REFERENCES, FIND_SYMBOL, LOCATE, READ_SYMBOL, REPO_MAP, SEARCH_CODE
from apps.agents.tools.moving import DELETE_FILE, MOVE_FILE
from apps.agents.tools.remembering import SEARCH_CONVERSATION
from apps.agents.tools.replanning import KEEP_PLAN, REVISE_PLAN
from apps.agents.tools.reviewing import SUBMIT_REVIEW
from apps.agents.tools.search import SEARCH
from apps.agents.tools.web import WEB_FETCH

_LOOK = (
    *(LIST_FILES, GLOB, READ_FILE, READ_IMAGE, SEARCH, GIT_LOG, GIT_SHOW, GIT_BLAME),
    *(LOCATE, SEARCH_CODE, REPO_MAP, FIND_SYMBOL, FIND_REFERENCES, READ_SYMBOL),
)
#: What was said and shown before: of any tool, since any output may be too long.
_LOOK_BACK = (COMMAND_OUTPUT, SEARCH_CONVERSATION)
#: A role's tools, besides those by which it edits and the web's.
TOOLS_BY_ROLE: dict[str, tuple[Tool[Any], ...]] = {
    # A planner, researcher or reviewer has no tool that changes anything: a prompt that asks it not to is no promise.
    "planner": (*_LOOK, *_LOOK_BACK, ASK_USER, ANSWER, SUBMIT_PLAN),
    "researcher": (*_LOOK, *_LOOK_BACK, ASK_USER, FINISH),
    "reviewer": (*_LOOK, *_LOOK_BACK, RUN_CHECKS, SUBMIT_REVIEW, FINISH),
    "coder": (
        *(*_LOOK, *_LOOK_BACK, MOVE_FILE, DELETE_FILE, RUN_COMMAND, COMMAND_STOP, RUN_CHECKS),
        *(ASK_USER, FINISH, REPORT_BLOCKED),
    ),
    # The planner, while its plan is carried out.
    "replanner": (*_LOOK, *_LOOK_BACK, ASK_USER, REVISE_PLAN, KEEP_PLAN),
}
#: The roles that change files.
EDITORS = frozenset({"coder"})
#: By what an agent hands its work over; one without any could not end.
HANDING_OVER = (SUBMIT_PLAN, REVISE_PLAN, KEEP_PLAN, SUBMIT_REVIEW, FINISH, REPORT_BLOCKED)


@dataclass(frozen=True)
class Offer:
    """What decides, beside the role, over the tools that a model gets."""

    edit_format: str = "replace"
    #: There are hosts that it may read from.
    web: bool = False
    #: Nothing may be changed, whatever the role: there is no tool for it then.
    read_only: bool = False
    #: What the project takes away from the role, by name.
    off: frozenset[str] = frozenset()


USUAL_OFFER = Offer()


def tool_find(name: str) -> Tool[Any] | None:
    """A tool by its name, whoever may have it."""
    every = [*(tool for tools in TOOLS_BY_ROLE.values() for tool in tools), WEB_FETCH]
    every += [tool for tools in EDIT_TOOLS.values() for tool in tools]
    return next((tool for tool in every if tool.name == name), None)


def tools_for(role: str, offer: Offer = USUAL_OFFER) -> dict[str, Tool[Any]]:
    """The tools of a role by name."""
    tools = TOOLS_BY_ROLE[role]
    if role in EDITORS:
        tools = (*EDIT_TOOLS[offer.edit_format], *tools)
    if offer.web:
        tools = (*tools, WEB_FETCH)
    return {tool.name: tool for tool in tools if not (offer.read_only and tool.mutating) and tool.name not in offer.off}


def tools_that_can_go() -> dict[str, tuple[str, ...]]:
    """By role, the names of the tools that a project may take away: all but those by which the work is handed over."""
    kept = {tool.name for tool in HANDING_OVER}
    found = {}
    for role, own in TOOLS_BY_ROLE.items():
        edits = [tool for tools in EDIT_TOOLS.values() for tool in tools] if role in EDITORS else []
        names = dict.fromkeys(tool.name for tool in (*own, *edits, WEB_FETCH))
        found[role] = tuple(name for name in names if name not in kept)
    return found
