"""Models behind one door: ``get_chat_model(spec)``, one file a vendor, each imported only when it is used.

The vendors' libraries cost over a second of CPU and a hundred megabytes to import. Nothing of this package imports
them (nor LangChain) before a model is asked for, so an API process can resolve names, addresses and keys for free.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from .errors import ModelNameInvalid
from .types import CallFailure, ModelSpec

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk
    from langchain_core.runnables import Runnable

#: Modules of the form of :class:`Adapter`, by protocol.
_ADAPTERS = {
    "openai-chat": "openai",
    "openai-responses": "openai_responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "scripted": "scripted",
}


class Adapter(Protocol):
    """What the module of a protocol knows."""

    def build(self, spec: ModelSpec) -> BaseChatModel:
        """A client of the endpoint; nothing is sent yet."""

    async def close(self, model: BaseChatModel) -> None:
        """Close its connections."""

    def bind(self, model: BaseChatModel, spec: ModelSpec, tools: Sequence[dict[str, Any]]) -> Runnable[Any, Any]:
        """The model with these tools (in OpenAI's form) at hand."""

    def call_arguments(
        self, spec: ModelSpec, *, output_tokens: int, session: str, reply_schema: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Arguments of one call: its output limit, what keeps a session at one cache, the shape of the reply."""

    def is_complete(self, chunks: Sequence[AIMessageChunk]) -> bool:
        """Whether the reply came to its end."""

    def failure(self, spec: ModelSpec, error: Exception) -> CallFailure | None:
        """What an exception out of a call means; None: it is no error of the vendor's, so a bug."""


def get_chat_model(spec: ModelSpec) -> BaseChatModel:
    """The LangChain model of a specification, with clients of its own: cache it, and close it in the end.

    It belongs to the event loop that calls it first. Raises :class:`~.errors.ProviderError`.
    """
    return adapter_of(spec).build(spec)


def adapter_of(spec: ModelSpec) -> Adapter:
    """The module that speaks the specification's protocol; loads the vendor's library."""
    name = _ADAPTERS.get(spec.protocol)
    if name is None:
        raise ModelNameInvalid(
            f"{spec.provider} models cannot be called yet",
            next_step="Choose one of another provider.",
        )
    return cast("Adapter", import_module(f".{name}", __package__))
