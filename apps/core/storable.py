"""Text and JSON as Postgres can hold them: models and programs also say NUL and half characters, which it refuses."""

from __future__ import annotations

import json
from typing import Any

REPLACEMENT = "\ufffd"


def text_storable(text: str) -> str:
    """The text with NUL characters and lone surrogates replaced."""
    return text.replace("\x00", REPLACEMENT).encode("utf-8", "replace").decode("utf-8")


def json_storable(value: Any) -> Any:
    """The JSON value with each text in it made storable; the value itself when nothing has to change."""
    dumped = json.dumps(value)
    if "\\u0000" not in dumped and "\\ud" not in dumped:
        return value
    return _clean(value)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return text_storable(value)
    if isinstance(value, dict):
        return {text_storable(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value
