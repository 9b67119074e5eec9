"""How much a model reads and writes."""

from __future__ import annotations

from functools import lru_cache

from .types import DEFAULT_OUTPUT_TOKENS

#: Assumed of a model that the price list does not know.
DEFAULT_CONTEXT_TOKENS = 128_000
#: A recorded dialogue reads nothing, however much it is given.
RECORDED_CONTEXT_TOKENS = 100_000_000

# Models that refuse a limit above their own; all newer ones write at least DEFAULT_OUTPUT_TOKENS.
_SMALL_OUTPUTS = (
    ("gpt-4.1", DEFAULT_OUTPUT_TOKENS),
    ("gpt-4.5", DEFAULT_OUTPUT_TOKENS),
    ("gpt-4o-2024-05-13", 4_096),
    ("gpt-4o", DEFAULT_OUTPUT_TOKENS),
    ("chatgpt-4o", DEFAULT_OUTPUT_TOKENS),
    ("gpt-4-32k", 4_096),
    ("gpt-4", 4_096),
    ("gpt-3.5", 4_096),
    ("claude-3-5", 8_192),
    ("claude-3-7", DEFAULT_OUTPUT_TOKENS),
    ("claude-3-", 4_096),
    ("claude-2", 4_096),
    ("gemini-1", 8_192),
    ("gemini-2.0", 8_192),
)
# Windows that the price list leaves out.
_CONTEXTS = (
    ("gemini-2.5", 1_048_576),
    ("gemini-3", 1_048_576),
    ("gpt-4.5", 128_000),
)


def output_limit(model: str) -> int:
    """The most tokens that a reply of the model is asked for."""
    name = model.lower()
    return next((limit for prefix, limit in _SMALL_OUTPUTS if name.startswith(prefix)), DEFAULT_OUTPUT_TOKENS)


@lru_cache(maxsize=256)
def context_limit(provider: str, model: str) -> int:
    """The model's context window in tokens, or the default for one that is not known."""
    if provider == "scripted":
        return RECORDED_CONTEXT_TOKENS
    from .prices import model_known

    known = model_known(provider, model)
    window = known.context_window if known is not None else None
    name = model.lower()
    return window or next((size for prefix, size in _CONTEXTS if name.startswith(prefix)), DEFAULT_CONTEXT_TOKENS)
