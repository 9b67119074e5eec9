"""In which form a model writes its changes: each family was trained on one, and is worse in the others."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from apps.agents.tools.base import Tool
from apps.agents.tools.editing import APPLY_PATCH_UNIFIED, APPLY_PATCH_V4A, EDIT_FILE, MULTI_EDIT, WRITE_FILE
from apps.agents.tools.patch import patch_format

#: What families get that were trained on patches: these, and the plain way for whoever steers the model otherwise.
_PATCHES_FIRST = "v4a+replace"
#: The tools of each format; a whole file can be written in all of them.
EDIT_TOOLS: dict[str, tuple[Tool[Any], ...]] = {
    "replace": (EDIT_FILE, MULTI_EDIT, WRITE_FILE),
    "v4a": (APPLY_PATCH_V4A, WRITE_FILE),
    "unified": (APPLY_PATCH_UNIFIED, WRITE_FILE),
    "whole": (WRITE_FILE,),
    _PATCHES_FIRST: (APPLY_PATCH_V4A, EDIT_FILE, WRITE_FILE),
}
#: What a model gets that nobody has said anything about: patterns of its name, the first that fits.
FAMILIES: tuple[tuple[str, str], ...] = (
    ("*gpt-4.1*", _PATCHES_FIRST),
    ("*gpt-5*", _PATCHES_FIRST),
    ("*codex*", _PATCHES_FIRST),
    ("*", "replace"),
)


def edit_format_for(model: str, *, asked: str = "", configured: Mapping[str, str] | None = None) -> str:
    """The format of a model (``provider:model``): the one asked for, the operator's for it, its family's."""
    if asked in EDIT_TOOLS:
        return asked
    name = model.lower()
    rules = [*(configured or {}).items(), *FAMILIES]
    return next(format for pattern, format in rules if fnmatchcase(name, pattern.lower()) and format in EDIT_TOOLS)


def edit_format_used(name: str, arguments: Mapping[str, Any]) -> str:
    """The format that a call is written in; empty when it is no edit."""
    if name in ("edit_file", "multi_edit"):
        return "replace"
    if name == "write_file":
        return "whole"
    if name == "apply_patch":
        return patch_format(str(arguments.get("patch", "")))
    return ""
