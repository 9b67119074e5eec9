"""Every protocol that models are spoken to by, with the loopback server of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .anthropic_wire import AnthropicWire
from .gemini_wire import GeminiWire
from .openai_server import ChatWire
from .responses_wire import ResponsesWire
from .wire import Answer, ModelServer, Wire


@dataclass(frozen=True)
class Spoken:
    """A protocol as a client names it: the provider, and a model whose price is known."""

    wire: Callable[[], Wire]
    provider: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.provider}:{self.model}"

    def server(self, answer: Answer, *, api_key: str | None = None) -> ModelServer:
        return ModelServer(answer, wire=self.wire(), api_key=api_key)


WIRES = {
    "openai-chat": Spoken(ChatWire, "openai", "gpt-4o-mini"),
    "openai-responses": Spoken(ResponsesWire, "openai-responses", "gpt-5-mini"),
    "anthropic": Spoken(AnthropicWire, "anthropic", "claude-sonnet-4-5"),
    "gemini": Spoken(GeminiWire, "gemini", "gemini-2.5-flash"),
}
