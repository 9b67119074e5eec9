"""The vendors of models: which protocol each speaks, where, and which variables are its own.

A vendor is an address with a protocol. Whoever runs a server of one of the protocols elsewhere names that protocol's
vendor and a base URL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How requests and replies look on the wire; one adapter each.
Protocol = Literal["openai-chat", "openai-responses", "anthropic", "gemini", "scripted"]


@dataclass(frozen=True)
class Vendor:
    """Where a name before the colon of ``PROVIDER:MODEL`` leads."""

    name: str
    title: str
    protocol: Protocol
    #: The vendor's own address; of a program on the user's machine, where it listens unless told otherwise.
    base_url: str
    #: Settings with the operator's key and with another address that this key is for; empty: there is none.
    key_setting: str = ""
    base_url_setting: str = ""
    #: The vendor answers nobody without a key.
    needs_key: bool = True
    #: What is called where only the vendor is known.
    default_model: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """A program that its user runs: its address counts as one that a user named."""
        return not self.needs_key


VENDORS: tuple[Vendor, ...] = (
    Vendor(
        name="openai",
        title="OpenAI",
        protocol="openai-chat",
        base_url="https://api.openai.com/v1",
        key_setting="OPENAI_API_KEY",
        base_url_setting="OPENAI_BASE_URL",
        default_model="gpt-5-mini",
    ),
    Vendor(
        name="openai-responses",
        title="OpenAI, by its Responses API",
        protocol="openai-responses",
        base_url="https://api.openai.com/v1",
        key_setting="OPENAI_API_KEY",
        base_url_setting="OPENAI_BASE_URL",
    ),
    Vendor(
        name="anthropic",
        title="Anthropic",
        protocol="anthropic",
        base_url="https://api.anthropic.com",
        key_setting="ANTHROPIC_API_KEY",
        base_url_setting="ANTHROPIC_BASE_URL",
        default_model="claude-sonnet-5",
        aliases=("claude",),
    ),
    Vendor(
        name="gemini",
        title="Google Gemini",
        protocol="gemini",
        base_url="https://generativelanguage.googleapis.com",
        key_setting="GEMINI_API_KEY",
        base_url_setting="GEMINI_BASE_URL",
        default_model="gemini-2.5-flash",
        aliases=("google", "google_genai", "google-genai"),
    ),
    Vendor(
        name="openrouter",
        title="OpenRouter",
        protocol="openai-chat",
        base_url="https://openrouter.ai/api/v1",
        key_setting="OPENROUTER_API_KEY",
    ),
    Vendor(
        name="ollama",
        title="Ollama",
        protocol="openai-chat",
        base_url="http://127.0.0.1:11434/v1",
        base_url_setting="OLLAMA_BASE_URL",
        needs_key=False,
    ),
    Vendor(
        name="vllm",
        title="vLLM",
        protocol="openai-chat",
        base_url="http://127.0.0.1:8000/v1",
        base_url_setting="VLLM_BASE_URL",
        needs_key=False,
    ),
    Vendor(
        name="lmstudio",
        title="LM Studio",
        protocol="openai-chat",
        base_url="http://127.0.0.1:1234/v1",
        base_url_setting="LMSTUDIO_BASE_URL",
        needs_key=False,
    ),
)
SCRIPTED = Vendor(name="scripted", title="A recorded dialogue", protocol="scripted", base_url="", needs_key=False)
#: By every name that they answer to.
_BY_NAME = {name: vendor for vendor in (*VENDORS, SCRIPTED) for name in (vendor.name, *vendor.aliases)}


def vendor_find(name: str) -> Vendor | None:
    """The vendor of a name before the colon, or None."""
    return _BY_NAME.get(name.strip().lower())


def vendor_names() -> str:
    """Those that a user may write, for messages."""
    names = [vendor.name for vendor in (*VENDORS, SCRIPTED)]
    return f"{', '.join(names[:-1])} and {names[-1]}"
