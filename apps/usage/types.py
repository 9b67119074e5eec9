"""What apps above say and hear when they call a model."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.messages import AIMessage


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them (``estimated``: as we did), and their price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    estimated: bool = False


@dataclass(frozen=True)
class ModelReply:
    message: AIMessage
    usage: Usage
