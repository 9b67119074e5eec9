"""Which paths a worktree's ``.gitignore`` files name, without running git in a folder that an agent writes.

Git's rules: a file's patterns hold below its folder, later lines and deeper files win, ``!`` takes back, a trailing
``/`` means folders, a pattern with another ``/`` is anchored, ``**`` crosses folders. What is below an ignored folder
stays ignored; callers get that by not entering it. Both the patterns and the names are the agent's, so matching never
goes back over more than one star: no pattern takes more than about its own length times the path's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

_RULES_LIMIT = 2000
#: Any number of folders.
_FOLDERS = None


@dataclass(frozen=True)
class _Rule:
    prefix: str
    pattern: tuple[re.Pattern[str] | None, ...]
    folders_only: bool
    takes_back: bool


@dataclass(frozen=True)
class IgnoreRules:
    """The rules that hold at some folder, the strongest last."""

    rules: tuple[_Rule, ...] = ()

    def with_file(self, prefix: str, text: str) -> IgnoreRules:
        """With those of the ``.gitignore`` of the folder ``prefix`` (empty, or ending in a slash)."""
        added = [rule for line in text.splitlines() if (rule := _rule(prefix, line)) is not None]
        # Of too many the strongest stay.
        return IgnoreRules((*self.rules, *added)[-_RULES_LIMIT:]) if added else self

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        for rule in reversed(self.rules):
            if (is_folder or not rule.folders_only) and path.startswith(rule.prefix):
                names = path[len(rule.prefix) :].split("/")
                if _matches(rule.pattern, names):
                    return not rule.takes_back
        return False


def _matches(pattern: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    at = name = 0
    # Where to go on when it doesn't match: after the last "any folders", which then takes one name more.
    retry_at, retry_name = -1, 0
    while name < len(names):
        part = pattern[at] if at < len(pattern) else ...
        if part is _FOLDERS:
            at += 1
            retry_at, retry_name = at, name
        elif isinstance(part, re.Pattern) and part.fullmatch(names[name]):
            at, name = at + 1, name + 1
        elif retry_at >= 0:
            retry_name += 1
            at, name = retry_at, retry_name
        else:
            return False
    return all(part is _FOLDERS for part in pattern[at:])


def _rule(prefix: str, line: str) -> _Rule | None:
    # Spaces at the end don't count unless the last one is quoted.
    stripped = line.rstrip(" ")
    line = f"{stripped} " if stripped.endswith("\\") and stripped != line else stripped
    if not line or line.startswith("#"):
        return None
    takes_back = line.startswith("!")
    line = line[1:] if takes_back else line
    folders_only = line.endswith("/")
    line = line.rstrip("/") if folders_only else line
    if not line:
        return None
    pattern = _pattern(line)
    return None if pattern is None else _Rule(prefix, pattern, folders_only, takes_back)


@functools.lru_cache(maxsize=2048)
def _pattern(text: str) -> tuple[re.Pattern[str] | None, ...] | None:
    anchored = "/" in text
    parts = text.removeprefix("/").split("/")
    pattern: list[re.Pattern[str] | None] = [] if anchored else [_FOLDERS]
    try:
        for part in parts:
            pattern.append(_FOLDERS if part == "**" else _name(part))
        if parts[-1] == "**":
            # At the end it is what is inside, and not the folder itself.
            pattern.append(_name("*"))
    except re.error:
        return None
    return tuple(pattern)


def _name(part: str) -> re.Pattern[str]:
    """One name's pattern: literal pieces with stars between them.

    Of the text up to a later star the first place that fits is as good as any, so all but the last star are atomic.
    """
    pieces = [""]
    position = 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "*":
            if position == 1 or part[position - 2 : position] != "**" or pieces[-1]:
                pieces.append("")
        elif character == "?":
            pieces[-1] += "."
        elif character == "\\" and position < len(part):
            pieces[-1] += re.escape(part[position])
            position += 1
        elif character == "[" and (end := _class_end(part, position)) > 0:
            inside = part[position:end]
            negated = inside[:1] in ("!", "^")
            inside = (inside[1:] if negated else inside).replace("[", "\\[")
            pieces[-1] += f"[{'^' if negated else ''}{inside}]"
            position = end + 1
        else:
            pieces[-1] += re.escape(character)
    first, *rest = pieces
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece)
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


def _class_end(part: str, position: int) -> int:
    """Where a bracket that opened before ``position`` closes; a closing one that comes first is one of its members."""
    if part[position : position + 1] in ("!", "^"):
        position += 1
    return part.find("]", position + 1)
