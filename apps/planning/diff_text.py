"""The changes between two versions of a plan, in words: a line each, and what texts and lists gained and lost below."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: How many changes the short form names.
_NAMED = 3
_MARKS = {"added": "+", "removed": "-", "moved": ">", "changed": "~"}


def changes_text(changes: Iterable[Mapping[str, Any]]) -> str:
    """All of the changes (``Change.as_dict``), as text; empty: there are none."""
    return "\n".join(line for change in changes for line in _lines(change))


def changes_brief(changes: Iterable[Mapping[str, Any]]) -> str:
    """What was changed, in one line: each feature or task once, as a reason where nobody gave one."""
    told: dict[str, None] = {}
    for change in changes:
        told[_brief(change)] = None
    named, left = list(told)[:_NAMED], len(told) - _NAMED
    return "; ".join(named) + (f"; and {left} more" if left > 0 else "")


def _brief(change: Mapping[str, Any]) -> str:
    kind, field = change["kind"], change["field"]
    if change["what"] == "plan":
        return f"the plan's {field} was changed"
    name = f"{change['what']} {change['key']}"
    if kind == "changed" and field == "skipped":
        return f"{name} is {'done without' if change['after'] else 'wanted again'}"
    if kind == "changed" and field == "blocked_reason":
        return f"{name} is {'held' if change['after'] else 'released'}"
    return f"{name} was {kind}"


def _lines(change: Mapping[str, Any]) -> Iterator[str]:
    mark = _MARKS[change["kind"]]
    name = f"{change['what']} {change['key']}".strip()
    if change["kind"] == "changed":
        yield f"{mark} {name}: {change['field']}"
        yield from (f"    {line}" for line in _values(change["before"], change["after"]))
        return
    where = {
        "added": _place("in", change["after"]),
        "removed": _place("was in", change["before"]),
        "moved": _moved(change["before"], change["after"]),
    }[change["kind"]]
    yield f"{mark} {name} {change['title']}" + (f" ({where})" if where else "")


def _place(word: str, value: Any) -> str:
    inside = (value or {}).get("in", "")
    return f"{word} {inside}" if inside else ""


def _moved(before: Any, after: Any) -> str:
    former, present = ((value or {}).get("in", "") or "the plan itself" for value in (before, after))
    return f"within {present}" if former == present else f"from {former} to {present}"


def _values(before: Any, after: Any) -> Iterator[str]:
    """What went with a minus before it, what came with a plus; of longer texts and lists, a little of what stayed."""
    _, _, *lines = difflib.unified_diff(_rows(before), _rows(after), lineterm="", n=1)
    yield from (line.rstrip() for line in lines if not line.startswith("@@"))


def _rows(value: Any) -> list[str]:
    if isinstance(value, list):
        return [_row(item) for item in value]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return str(value).splitlines()


def _row(item: Any) -> str:
    if isinstance(item, Mapping):
        command, name = str(item.get("command", "")), item.get("name", "")
        return f"{command} ({name})" if name else command
    return str(item)
