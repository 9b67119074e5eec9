"""What the notes under a heading or a task of a plan's Markdown say, each into the members that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apps.planning.markdown_text import NAME_MARK, NOTHING, code_read, line_read, names_read
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskStatus, TaskType

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
