"""What is known of providers' embedders without asking them, and without any library."""

from __future__ import annotations

from integrations.llm_providers.types import ModelSpec

#: How embedders are asked over the network; Anthropic has none.
PROTOCOLS = ("openai-chat", "openai-responses", "gemini")
#: Texts in one request; OpenAI takes 2,048 and Google 100, others far fewer.
BATCH_TEXTS = 64
#: Characters in one request: far below what any endpoint takes in tokens.
BATCH_CHARACTERS = 150_000
#: Numbers in a vector, where the model is not asked for fewer.
_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
    "gemini-embedding-001": 3072,
}
#: Models that make shorter vectors when asked; others are not asked, since they'd refuse.
_SHORTENED = ("text-embedding-3", "gemini-embedding", "text-embedding-004")


def dimension_known(spec: ModelSpec) -> int | None:
    return _DIMENSIONS.get(spec.model.removeprefix("models/"))


def can_shorten(spec: ModelSpec) -> bool:
    """Whether the model makes vectors of the length that it is asked for."""
    return spec.model.removeprefix("models/").startswith(_SHORTENED)
