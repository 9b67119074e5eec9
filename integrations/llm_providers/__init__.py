"""Models behind one door: ``get_chat_model(spec)``, one file a vendor, each imported only when it is used.

The vendors' libraries cost over a second of CPU and a hundred megabytes to import. Nothing of this package imports
them (nor LangChain) before a model is asked for, so an API process can resolve names, addresses and keys for free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .types import CallFailure, ModelSpec

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def get_chat_model(spec: ModelSpec) -> BaseChatModel:
    """The LangChain model of a specification, with clients of its own: cache it, and close it in the end.

    It belongs to the event loop that calls it first. Raises :class:`~.errors.ProviderError`.
    """
    if spec.provider == "openai":
        from . import openai

        return openai.build(spec)
    if spec.provider == "scripted":
        from . import scripted

        return scripted.build(spec)
    from .credentials import SUPPORTED_PROVIDERS
    from .errors import ModelNameInvalid

    raise ModelNameInvalid(
        f"there is no provider '{spec.provider}' here",
        next_step=f"Supported are {' and '.join(SUPPORTED_PROVIDERS)}.",
    )


async def close_chat_model(model: BaseChatModel) -> None:
    """Close a model's connections."""
    client = getattr(model, "root_async_client", None)
    if client is not None:
        await client.close()


def output_limit_arguments(spec: ModelSpec, tokens: int) -> dict[str, Any]:
    """Arguments of one call that limit its reply to fewer tokens than the specification says."""
    if spec.provider == "openai":
        from . import openai

        return openai.output_limit_arguments(spec, tokens)
    return {}


def call_failure(spec: ModelSpec, error: Exception) -> CallFailure | None:
    """What an exception out of a call of this model means; None: it is no error of the vendor's, so a bug."""
    if spec.provider == "openai":
        from . import openai

        return openai.failure(spec, error)
    if spec.provider == "scripted":
        from . import scripted

        return scripted.failure(spec, error)
    return None
