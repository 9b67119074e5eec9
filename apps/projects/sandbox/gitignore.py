"""Which paths a worktree's ``.gitignore`` files name, without running git in a folder that an agent writes.

Git's rules: a file's patterns hold below its folder, later lines and deeper files win, ``!`` takes back, a trailing
``/`` means folders, a pattern with another ``/`` is anchored, ``**`` crosses folders. What is below an ignored folder
stays ignored; callers get that by not entering it.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class _Rule:
    prefix: str
    pattern: re.Pattern[str]
    folders_only: bool
    takes_back: bool


@dataclass(frozen=True)
class IgnoreRules:
    """The rules that hold at some folder, the strongest last."""

    rules: tuple[_Rule, ...] = ()

    def with_file(self, prefix: str, text: str) -> IgnoreRules:
        """With those of the ``.gitignore`` of the folder ``prefix`` (empty, or ending in a slash)."""
        added = [rule for line in text.splitlines() if (rule := _rule(prefix, line)) is not None]
        return IgnoreRules((*self.rules, *added)) if added else self

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        for rule in reversed(self.rules):
            if rule.folders_only and not is_folder:
                continue
            if path.startswith(rule.prefix) and rule.pattern.fullmatch(path, len(rule.prefix)):
                return not rule.takes_back
        return False


def _rule(prefix: str, line: str) -> _Rule | None:
    # Spaces at the end don't count unless the last one is quoted.
    line = re.sub(r"(?<!\\) +$", "", line)
    if not line or line.startswith("#"):
        return None
    takes_back = line.startswith("!")
    line = line[1:] if takes_back else line
    folders_only = line.endswith("/")
    line = line.rstrip("/") if folders_only else line
    if not line:
        return None
    expression = _expression(line)
    return None if expression is None else _Rule(prefix, expression, folders_only, takes_back)


@functools.lru_cache(maxsize=2048)
def _expression(pattern: str) -> re.Pattern[str] | None:
    anchored = "/" in pattern
    pattern = pattern.removeprefix("/")
    parts = pattern.split("/")
    expression = "" if anchored else "(?:.*/)?"
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if part == "**":
            expression += ".+" if is_last else "(?:.*/)?"
        else:
            expression += _part(part) + ("" if is_last else "/")
    try:
        return re.compile(expression, re.DOTALL)
    except re.error:
        return None


def _part(part: str) -> str:
    """One name's pattern."""
    result = ""
    position = 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "*":
            # Runs of stars mean one star; a run in the expression would take exponential time on some names.
            while position < len(part) and part[position] == "*":
                position += 1
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "\\" and position < len(part):
            result += re.escape(part[position])
            position += 1
        elif (
            character == "["
            and (end := part.find("]", position + 2 if part[position : position + 1] in "!^" else position + 1)) > 0
        ):
            inside = part[position:end]
            negated = inside[:1] in ("!", "^")
            inside = (inside[1:] if negated else inside).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
            result += f"[{'^' if negated else ''}{inside}]"
            position = end + 1
        else:
            result += re.escape(character)
    return result
