"""The content of a message in rows, whoever made it.

A reply of text alone is a string. One that carries what its vendor wants back (the reasoning, encrypted or signed) is
a list in the order of the reply: ``text`` blocks, the vendor's own ``thinking``, ``redacted_thinking`` and
``reasoning`` blocks, and a ``call`` block with the id of a tool call, for its place and for the signature that came
with it. Which endpoint and model that was stands in ``additional_kwargs``, under :data:`ORIGIN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .types import ModelSpec

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

ORIGIN = "origin"
#: The vendors' blocks that go back to them, and what of each.
_NATIVE = {
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
    "reasoning": ("type", "id", "summary", "encrypted_content"),
}
_CALLS = {"tool_use": "id", "function_call": "call_id", "input_json_delta": "id"}
_GEMINI_SIGNATURES = "__gemini_function_call_thought_signatures__"


def origin_of(spec: ModelSpec) -> str:
    """Whose blocks a model can read: its own, at its own address."""
    return f"{spec.protocol} {spec.base_url} {spec.model}"


def content_of(message: AIMessage, call_ids: Mapping[str, str]) -> str | list[Any]:
    """The content of a reply as it is stored; ``call_ids`` names its calls (by the vendor's id) as they are now."""
    signatures = message.additional_kwargs.get(_GEMINI_SIGNATURES) or {}
    blocks: list[dict[str, Any]] = []
    placed: set[str] = set()

    def place(vendor_id: str) -> None:
        if (call_id := call_ids.get(vendor_id)) is not None and call_id not in placed:
            placed.add(call_id)
            signature = signatures.get(vendor_id)
            blocks.append({"type": "call", "id": call_id} | ({"signature": signature} if signature else {}))

    content: Sequence[Any] = [message.content] if isinstance(message.content, str) else message.content
    for block in content:
        if isinstance(block, str):
            blocks.append({"type": "text", "text": block})
            continue
        kind = str(block.get("type"))
        if kind == "text":
            signature = (block.get("extras") or {}).get("signature")
            blocks.append(
                {"type": "text", "text": block.get("text") or ""} | ({"signature": signature} if signature else {})
            )
        elif kind == "refusal":
            blocks.append({"type": "text", "text": block.get("refusal") or ""})
        elif kind in _NATIVE:
            kept = {name: block[name] for name in _NATIVE[kind] if block.get(name) is not None}
            if kind == "reasoning":
                parts = [{"type": "summary_text", "text": part.get("text", "")} for part in block.get("summary") or ()]
                kept["summary"] = parts
            blocks.append(kept)
        elif kind in _CALLS:
            place(str(block.get(_CALLS[kind])))
    for vendor_id in call_ids:
        place(vendor_id)
    if not any(_is_native(block) for block in blocks):
        return "".join(block["text"] for block in blocks if block["type"] == "text")
    return [block for block in blocks if block["type"] != "text" or block["text"] or block.get("signature")]


def calls_renamed(content: str | list[Any], names: Mapping[str, str]) -> str | list[Any]:
    """The content with other ids of its calls."""
    if isinstance(content, str):
        return content
    return [
        (
            block | {"id": names.get(block["id"], block["id"])}
            if isinstance(block, dict) and block.get("type") == "call"
            else block
        )
        for block in content
    ]


def _is_native(block: Mapping[str, Any]) -> bool:
    if block["type"] == "reasoning":
        return "encrypted_content" in block
    if block["type"] == "thinking":
        return "signature" in block
    return block["type"] == "redacted_thinking" or "signature" in block
