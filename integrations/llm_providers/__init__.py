"""Models behind one door: ``get_chat_model(spec)``, one file a vendor, each imported only when it is used.

The vendors' libraries cost over a second of CPU and a hundred megabytes to import. Nothing of this package imports
them (nor LangChain) before a model is asked for, so an API process can resolve names, addresses and keys for free.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from .errors import ModelNameInvalid
from .types import CallFailure, ModelSpec

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

#: Modules with `build`, `output_limit_arguments` and `failure`, by protocol.
_ADAPTERS = {"openai-chat": "openai", "scripted": "scripted"}


def get_chat_model(spec: ModelSpec) -> BaseChatModel:
    """The LangChain model of a specification, with clients of its own: cache it, and close it in the end.

    It belongs to the event loop that calls it first. Raises :class:`~.errors.ProviderError`.
    """
    return cast("BaseChatModel", _adapter(spec).build(spec))


async def close_chat_model(model: BaseChatModel) -> None:
    """Close a model's connections."""
    client = getattr(model, "root_async_client", None)
    if client is not None:
        await client.close()


def output_limit_arguments(spec: ModelSpec, tokens: int) -> dict[str, Any]:
    """Arguments of one call that limit its reply to fewer tokens than the specification says."""
    return cast("dict[str, Any]", _adapter(spec).output_limit_arguments(spec, tokens))


def call_failure(spec: ModelSpec, error: Exception) -> CallFailure | None:
    """What an exception out of a call of this model means; None: it is no error of the vendor's, so a bug."""
    return cast("CallFailure | None", _adapter(spec).failure(spec, error))


def _adapter(spec: ModelSpec) -> ModuleType:
    """The module that speaks the specification's protocol; loads the vendor's library."""
    name = _ADAPTERS.get(spec.protocol)
    if name is None:
        raise ModelNameInvalid(
            f"{spec.provider} models cannot be called yet",
            next_step="Choose one of another provider.",
        )
    return import_module(f".{name}", __package__)
