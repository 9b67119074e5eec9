"""Every protocol that models are spoken to by, with the loopback server of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .anthropic_wire import AnthropicWire
from .gemini_wire import GeminiWire
from .openai_server import ChatWire
from .responses_wire import ResponsesWire
from .wire import Answer, ModelServer, Tokens, Wire


@dataclass(frozen=True)
class Spoken:
    """A protocol as a client names it: the provider, and a model whose price is known."""

    wire: Callable[[], Wire]
    provider: str
    model: str
    #: Dollars for a million tokens: read, read from the cache, written to it, written. As the vendor's page says.
    rates: tuple[float, float, float, float]

    def cost(self, tokens: Tokens) -> float:
        """What a person would compute for these."""
        plain = tokens.read - tokens.cached - tokens.kept
        counts = (plain, tokens.cached, tokens.kept, tokens.written)
        return sum(count * rate for count, rate in zip(counts, self.rates, strict=True)) / 1e6

    @property
    def name(self) -> str:
        return f"{self.provider}:{self.model}"

    def server(self, answer: Answer, *, api_key: str | None = None) -> ModelServer:
        return ModelServer(answer, wire=self.wire(), api_key=api_key)


WIRES = {
    "openai-chat": Spoken(ChatWire, "openai", "gpt-4o-mini", (0.15, 0.075, 0.15, 0.60)),
    "openai-responses": Spoken(ResponsesWire, "openai-responses", "gpt-5-mini", (0.25, 0.025, 0.25, 2.0)),
    "anthropic": Spoken(AnthropicWire, "anthropic", "claude-sonnet-4-5", (3.0, 0.30, 3.75, 15.0)),
    "gemini": Spoken(GeminiWire, "gemini", "gemini-2.5-flash", (0.30, 0.03, 0.30, 2.5)),
}
