"""Reading patches as models write them: strict in what they say, lenient in what surrounds it."""

from __future__ import annotations

import re
from typing import Literal

from apps.agents.tools.patch.types import FileChange, PatchError
from apps.agents.tools.patch.unified import unified_parse
from apps.agents.tools.patch.v4a import v4a_parse

PatchFormat = Literal["unified", "v4a"]
_FENCE = re.compile(r"\A\s*```[\w-]*\n(?P<inside>.*\n)```\s*\Z", re.DOTALL)


def patch_format(text: str) -> PatchFormat:
    """Which of the formats the text is meant to be."""
    return "v4a" if re.search(r"^\s*\*\*\* (Begin Patch|(Update|Add|Delete) File:)", text, re.MULTILINE) else "unified"


def patch_parse(text: str) -> tuple[FileChange, ...]:
    """The changes of a patch, one a file; PatchError when it cannot be read, or changes a file twice."""
    fenced = _FENCE.match(text)
    if fenced is not None:
        text = fenced["inside"]
    if not text.strip():
        raise PatchError("the patch is empty")
    changes = v4a_parse(text) if patch_format(text) == "v4a" else unified_parse(text)
    if not changes:
        raise PatchError("the patch changes no file")
    seen: set[str] = set()
    for change in changes:
        for path in filter(None, (change.path, change.move_to)):
            if path in seen:
                raise PatchError(f"the patch changes {path} twice: put all that changes in a file into one section")
            seen.add(path)
    return changes
