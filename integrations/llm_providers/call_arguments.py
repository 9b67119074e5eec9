"""The arguments of a tool call, read strictly: what goes on from here is JSON by everybody's understanding."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

#: No tool's arguments come near it; what goes on from here is walked by recursion in many places.
MAX_DEPTH = 50


def call_arguments_read(text: str) -> tuple[dict[str, Any] | None, str]:
    """The arguments, or None and what is wrong with them. No text at all stands for no arguments."""
    if not text.strip():
        return {}, ""
    try:
        value = json.loads(text, strict=False, parse_constant=_number_refuse, parse_float=_number_read)
    except (ValueError, RecursionError) as error:
        return None, f"the arguments are not valid JSON: {error}"
    if not isinstance(value, dict):
        return None, "the arguments are not a JSON object"
    if not _is_shallow(value):
        return None, f"the arguments are nested more than {MAX_DEPTH} deep"
    return value, ""


def _is_shallow(value: Any) -> bool:
    """Whether no path in it is longer than ``MAX_DEPTH``; without recursion, since that is what is to be kept from."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return True
    return False


def _number_read(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _number_refuse(text)
    return value


def _number_refuse(text: str) -> NoReturn:
    """Python reads NaN and infinities; neither JSON nor a database knows them."""
    raise ValueError(f"{text} is not a number")
