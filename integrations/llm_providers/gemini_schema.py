"""Tools' parameters in the dialect of JSON schema that Gemini takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What may stand in a schema; the rest is refused, as `additionalProperties`, `$ref` and `title` are.
_KEPT = (
    "description",
    "enum",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "nullable",
)
_FORMATS = {"string": ("enum", "date-time"), "integer": ("int32", "int64"), "number": ("float", "double")}
_MAX_DEPTH = 32


def gemini_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of OpenAI's form with a schema that Gemini takes; one without arguments has none."""
    function = dict(tool["function"])
    function.pop("strict", None)
    schema = gemini_schema(function.pop("parameters", None) or {})
    if schema.get("properties"):
        function["parameters"] = schema
    return {"type": "function", "function": function}


def gemini_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema, with references written out and without what is not taken."""
    return _translated(schema, schema.get("$defs") or schema.get("definitions") or {}, 0)


def _translated(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:  # a schema that holds itself
        return {"type": "object"}
    if reference := schema.get("$ref"):
        named = definitions.get(str(reference).rpartition("/")[2], {})
        return _translated({**named, **{k: v for k, v in schema.items() if k != "$ref"}}, definitions, depth + 1)
    parts: list[Mapping[str, Any]] = list(schema.get("allOf") or ())
    if len(parts) == 1:
        return _translated({**parts[0], **{k: v for k, v in schema.items() if k != "allOf"}}, definitions, depth + 1)
    result = {name: schema[name] for name in _KEPT if name in schema}
    if "const" in schema:
        result["enum"] = [schema["const"]]
    kinds = schema.get("type")
    if isinstance(kinds, list):
        result["nullable"] = "null" in kinds
        kinds = next((kind for kind in kinds if kind != "null"), "string")
    variants = [part for part in (schema.get("anyOf") or schema.get("oneOf") or ()) if part.get("type") != "null"]
    if schema.get("anyOf") or schema.get("oneOf"):
        if len(variants) < len(schema.get("anyOf") or schema.get("oneOf") or ()):
            result["nullable"] = True
        translated = [_translated(part, definitions, depth + 1) for part in variants]
        return translated[0] | result if len(translated) == 1 else result | {"anyOf": translated}
    if "enum" in result:
        # Only strings can be listed.
        kinds, result["enum"] = "string", [str(item) for item in result["enum"] if item is not None]
    if kinds is None:
        kinds = "object" if "properties" in schema else "string"
    result["type"] = kinds
    if schema.get("format") in _FORMATS.get(kinds, ()):
        result["format"] = schema["format"]
    if kinds == "array":
        result["items"] = _translated(schema.get("items") or {"type": "string"}, definitions, depth + 1)
    if kinds == "object":
        properties = schema.get("properties") or {}
        result["properties"] = {name: _translated(part, definitions, depth + 1) for name, part in properties.items()}
        if required := [name for name in schema.get("required") or () if name in properties]:
            result["required"] = required
    return result
