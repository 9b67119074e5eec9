"""Counting tokens without asking the vendor.

Three answers: a ceiling that costs nothing (a byte-level vocabulary never makes more tokens than there are bytes),
which is enough while a budget is far from its end; a rough number, for calls that broke off; and a close count, which
is worth its price near a budget's end and where a vendor reports no usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bpe_openai import Encoding
    from langchain_core.messages import BaseMessage

#: What roles and separators cost, above what any known protocol takes.
TOKENS_PER_MESSAGE = 8
TOKENS_PER_REQUEST = 64
TOKENS_OF_TOOL_USE = 800
_ROUGH_BYTES = 3
#: Another vendor's vocabulary may need this much more than the one that is counted with.
FOREIGN_VOCABULARY = 1.35

# Counts by (length, hash) of a text: a conversation is not encoded again at each step, nor kept alive by this.
_counts: dict[tuple[str, int, int], int] = {}
_MAX_COUNTS = 50_000


def message_texts(messages: Iterable[BaseMessage]) -> Iterable[str]:
    """Everything of the messages that a model reads."""
    for message in messages:
        content = message.content
        if isinstance(content, str):
            yield content
        else:
            for block in content:
                if isinstance(block, str):
                    yield block
                elif block.get("type") == "text":
                    yield block.get("text") or ""
                elif not _is_image(block):
                    yield json.dumps(block, default=str)
        for call in getattr(message, "tool_calls", ()):
            yield call["name"]
            yield json.dumps(call["args"], default=str)
        for call in getattr(message, "invalid_tool_calls", ()):
            yield call["name"] or ""
            yield call["args"] or ""


def image_count(messages: Iterable[BaseMessage]) -> int:
    """How many pictures the messages carry: each takes a number of tokens that its bytes don't tell."""
    return sum(
        isinstance(block, dict) and _is_image(block)
        for message in messages
        if not isinstance(message.content, str)
        for block in message.content
    )


def tokens_ceiling(messages: Sequence[BaseMessage], tools_json: str = "", *, image_tokens: int = 0) -> int:
    """A number of tokens that the request cannot pass, with so many for each image."""
    size = sum(_bytes(text) for text in message_texts(messages)) + _bytes(tools_json)
    return size + _around(messages, image_tokens)


def tokens_rough(messages: Sequence[BaseMessage], tools_json: str = "", *, image_tokens: int = 0) -> int:
    """About as many tokens as the request has, and rather more."""
    return tokens_ceiling(messages, tools_json, image_tokens=image_tokens) // _ROUGH_BYTES


def reply_tokens_rough(text: str) -> int:
    """About as many tokens as a reply has (calls of tools included), and rather more."""
    return _bytes(text) // _ROUGH_BYTES + 1


def tokens_close(messages: Sequence[BaseMessage], tools_json: str = "", *, model: str, image_tokens: int = 0) -> int:
    """A close number that the request should not pass; never above :func:`tokens_ceiling`."""
    encoding, exact = _encoding(model.lower())
    count = sum(text_tokens(encoding, text) for text in message_texts(messages)) + text_tokens(encoding, tools_json)
    if not exact:
        count = int(count * FOREIGN_VOCABULARY)
    # Some vendors put instructions of their own before a request with tools.
    hidden = TOKENS_OF_TOOL_USE if tools_json and not exact else 0
    close = count + hidden + _around(messages, image_tokens)
    return min(close, tokens_ceiling(messages, tools_json, image_tokens=image_tokens))


def reply_tokens(text: str, *, calls: int, model: str) -> int:
    """About how many tokens a reply has that the vendor did not count: its text, with so many calls of tools in it."""
    encoding, _ = _encoding(model.lower())
    return text_tokens(encoding, text) + TOKENS_PER_MESSAGE * calls


def text_tokens(encoding: str, text: str) -> int:
    key = (encoding, len(text), hash(text))
    count = _counts.get(key)
    if count is None:
        if len(_counts) >= _MAX_COUNTS:
            _counts.clear()
        count = _counts[key] = len(_load(encoding).encode_ordinary(text))
    return count


def _around(messages: Sequence[BaseMessage], image_tokens: int) -> int:
    images = image_tokens * image_count(messages) if image_tokens else 0
    return TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_REQUEST + images


def _is_image(block: Mapping[str, Any]) -> bool:
    return block.get("type") in ("image", "image_url", "input_image")


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _encoding(model: str) -> tuple[str, bool]:
    """The vocabulary to count with, and whether it is the model's own."""
    if model.startswith(("gpt-4o", "gpt-4.", "gpt-5", "chatgpt-4o", "o1", "o3", "o4")):
        return "o200k_base", True
    if model.startswith(("gpt-4", "gpt-3.5")):
        return "cl100k_base", True
    return "o200k_base", False


@lru_cache(maxsize=4)
def _load(encoding: str) -> Encoding:
    # Half a second and 140 MB: only once something has to be counted.
    from bpe_openai import get_encoding

    return get_encoding(encoding)
