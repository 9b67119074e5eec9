"""What the notes under a heading or a task of a plan's Markdown say, each into the members that it stands for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection
from typing import Any

from apps.planning.document import KEY_PATTERN
from apps.planning.markdown_text import NAME_MARK, NOTHING, code_read, line_read, names_read
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskStatus, TaskType

#: A note as it stands in a line: its name and what it says.
NOTE = re.compile(r"[ \t]*[-*+][ \t]+([A-Za-z][A-Za-z_ ]{1,20}):(?:[ \t]+(.*))?$")
#: How much of a name has to be right for it to be called misspelt.
_LIKE = 0.8
#: Takes a value; raises ValueError, which says what is wrong with it.
Take = Callable[[dict[str, Any], str], None]


def _choice(name: str, kind: type[Any]) -> Take:
    def take(members: dict[str, Any], value: str) -> None:
        known = [each.value for each in kind]
        if value.lower() not in known:
            raise ValueError(f"there is no {value[:60]!r}; it is one of {', '.join(known)}")
        members[name] = value.lower()

    return take


def _names(name: str) -> Take:
    def take(members: dict[str, Any], value: str) -> None:
        # A name that is in quotes is a name, whatever it says.
        found = [] if value.lower() in NOTHING else list(names_read(value))
        wrong = [each for each in found if name == "depends_on" and not re.fullmatch(KEY_PATTERN, each)]
        if wrong:
            raise ValueError(f"{wrong[0][:60]!r} is no key; keys stand there with commas between")
        members[name] = [*members.get(name, []), *found]

    return take


def _check(members: dict[str, Any], value: str) -> None:
    literal = code_read(value)
    rest = literal[1].strip(" \t") if literal else ""
    mark = NAME_MARK.strip()
    if literal is None or (rest and not rest.startswith((mark, "-", ":", "#"))):
        check = {"command": value}
    else:
        check = {"command": literal[0], "name": line_read(rest[1:].strip(" \t")) if rest else ""}
    if not check["command"]:
        raise ValueError("a command is missing")
    members.setdefault("checks", []).append(check)


def _held(members: dict[str, Any], value: str) -> None:
    members["blocked_reason"] = line_read(value)


def _status(members: dict[str, Any], value: str) -> None:
    words = [word.strip(" \t").lower() for word in value.split(",")]
    unknown = [word for word in words if word not in TaskStatus.values]
    if unknown:
        raise ValueError(f"there is no {unknown[0][:60]!r}; it is one of {', '.join(TaskStatus.values)}")
    members["status"] = words
    members["skipped"] = TaskStatus.SKIPPED.value in words


def _nowhere(members: dict[str, Any], value: str) -> None:
    """Taken elsewhere."""


PLAN_NOTES: dict[str, Take] = {"intent": _choice("intent", Intent), "text": _nowhere}
FEATURE_NOTES: dict[str, Take] = {
    "priority": _choice("priority", Priority),
    "effort": _choice("effort", Effort),
    **dict.fromkeys(("needs", "depends on", "depends_on"), _names("depends_on")),
    "held": _held,
    "text": _nowhere,
}
TASK_NOTES: dict[str, Take] = {
    "type": _choice("type", TaskType),
    "agent": _choice("agent_type", TaskAgent),
    **dict.fromkeys(("needs", "depends on", "depends_on"), _names("depends_on")),
    "files": _names("files"),
    "creates": _names("creates"),
    **dict.fromkeys(("check", "checks"), _check),
    "held": _held,
    "status": _status,
    "text": _nowhere,
}


def note_known(word: str, notes: Collection[str]) -> bool:
    return word.strip().lower() in notes


def note_like(word: str, notes: Collection[str]) -> str:
    """The note that was likely meant by a word that is none; empty: no one can tell."""
    name = word.strip().lower()
    begun = [note for note in notes if len(name) > 3 and note.startswith(name)]
    return next(iter([*begun, *difflib.get_close_matches(name, notes, n=1, cutoff=_LIKE)]), "")
