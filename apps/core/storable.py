"""Text and JSON as Postgres can hold them: models and programs also say NUL, half characters and infinite numbers."""

from __future__ import annotations

import json
import math
from typing import Any

REPLACEMENT = "\ufffd"


def text_storable(text: str) -> str:
    """The text with NUL characters and lone surrogates replaced."""
    return text.replace("\x00", REPLACEMENT).encode("utf-8", "replace").decode("utf-8")


def json_storable(value: Any) -> Any:
    """The JSON value with each text and number in it made storable; the value itself when nothing has to change."""
    return value if _dump(value) is not None else _clean(value)


def json_dump(value: Any) -> str:
    """The value as JSON that Postgres takes."""
    dumped = _dump(value)
    return json.dumps(_clean(value), allow_nan=False) if dumped is None else dumped


def json_ordered(value: Any) -> Any:
    """The JSON value with the members of each object in the order in which Postgres (`jsonb`) gives them back.

    So that what is used before it was read again looks the same as after that.
    """
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: (len(name := str(member[0]).encode()), name))
        return {key: json_ordered(item) for key, item in members}
    if isinstance(value, (list, tuple)):
        return [json_ordered(item) for item in value]
    return value


def _dump(value: Any) -> str | None:
    """The value as JSON; None when Postgres may refuse it."""
    try:
        dumped = json.dumps(value, allow_nan=False)
    except ValueError:  # a number that JSON does not have
        return None
    return None if "\\u0000" in dumped or "\\ud" in dumped else dumped


def _clean(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return text_storable(value)
    if isinstance(value, dict):
        return {text_storable(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value
