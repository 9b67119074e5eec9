"""The arguments of a tool call, read strictly: what goes on from here is JSON by everybody's understanding."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


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
    return value, ""


def _number_read(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _number_refuse(text)
    return value


def _number_refuse(text: str) -> NoReturn:
    """Python reads NaN and infinities; neither JSON nor a database knows them."""
    raise ValueError(f"{text} is not a number")
