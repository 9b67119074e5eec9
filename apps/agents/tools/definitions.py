"""Tools as models are told of them.

For the worker: the API process, which knows the tools by their arguments, loads no model library.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from langchain_core.utils.json_schema import dereference_refs

from apps.agents.tools.base import Tool

#: Bounds from which on nobody comes near them unless something is wrong; then the answer to the call says so.
_FAR = {"maxLength": 1_000, "maxItems": 1_000, "maximum": 100_000}


@lru_cache(maxsize=256)
def tool_definition(tool: Tool[Any]) -> dict[str, Any]:
    """The tool in OpenAI's function format, references resolved, since not every server can follow them."""
    schema = dereference_refs(tool.arguments.model_json_schema())
    schema.pop("$defs", None)
    schema.pop("description", None)
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": _told(schema),
        },
    }


def _told(schema: Any) -> Any:
    """The schema without what tells a model nothing, and costs tokens at every call.

    Pydantic's titles repeat the names. That an argument that is left out is empty goes without saying, as does that a
    text has a character at least, that no other arguments are taken, and bounds that are far away; the answer to a call
    says so where it matters. Names of arguments are left alone, whatever they are.
    """
    if isinstance(schema, list):
        return [_told(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    told: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            told[key] = {name: _told(argument) for name, argument in value.items()}
        elif not _says_nothing(key, value):
            told[key] = value if key in ("enum", "default", "const") else _told(value)
    return told


def _says_nothing(key: str, value: Any) -> bool:
    match key:
        case "title" | "additionalProperties":
            return True
        case "default":
            return value in ("", [], None)
        case "minLength":
            return bool(value == 1)
        case "maxLength" | "maximum" | "maxItems":
            return bool(value >= _FAR[key])
    return False
