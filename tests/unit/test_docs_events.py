"""docs/reference/events.md has every event that the code writes, with its keys."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "events.md").read_text()


def _documented() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `([A-Z]\w+)` \| ([^|]*) \|", PAGE.replace("` | |", "` |  |"), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows}


def _written() -> dict[str, list[set[str] | None]]:
    """By type, the keys of each place that writes it; None where they are put together elsewhere."""
    found: dict[str, list[set[str] | None]] = {}
    for path in sorted((ROOT / "apps").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Event":
                name, *payload = node.args
                assert isinstance(name, ast.Constant), f"{path}: an event's type is written out"
                found.setdefault(str(name.value), []).append(_keys(payload))
    return found


def _keys(payload: list[ast.expr]) -> set[str] | None:
    if not payload:
        return set()
    if not isinstance(payload[0], ast.Dict):
        return None
    return {str(key.value) for key in payload[0].keys if isinstance(key, ast.Constant)}


def test_every_event_is_documented_and_none_that_there_is_not() -> None:
    assert set(_documented()) == set(_written())


def test_keys_are_those_that_are_written() -> None:
    documented = _documented()
    differing = {
        name: (keys, documented[name])
        for name, places in _written().items()
        for keys in places
        if keys is not None and keys != documented[name]
    }
    assert not differing
