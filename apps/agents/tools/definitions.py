"""Tools as models are told of them.

For the worker: the API process, which knows the tools by their arguments, loads no model library.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from langchain_core.utils.json_schema import dereference_refs

from apps.agents.tools.base import Tool


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
            "parameters": _without_titles(schema),
        },
    }


def _without_titles(schema: Any) -> Any:
    """Pydantic's titles repeat the names and cost tokens at every call."""
    if isinstance(schema, dict):
        return {
            key: _without_titles(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    return schema
