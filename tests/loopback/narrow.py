"""A model that reads no more than it can: requests that are longer, the reply's room included, are refused."""

from __future__ import annotations

import threading

from .openai_server import ChatWire
from .wire import Answer, Reply, Request

_WIRE = ChatWire()


class Narrow:
    """Answers as the other does, within a context window of so many tokens, as this server counts them."""

    def __init__(self, answer: Answer, *, window: int, models: tuple[str, ...] = ()) -> None:
        self._answer = answer
        self._window = window
        #: The models that it holds for; none: all.
        self._models = models
        self._lock = threading.Lock()
        #: Tokens of each request that was let in, and of each that was refused, its longest reply included.
        self.taken: list[int] = []
        self.refused: list[int] = []

    def __call__(self, request: Request) -> Reply:
        if self._models and request.model not in self._models:
            return self._answer(request)
        tokens = request_tokens(request)
        with self._lock:
            (self.taken if tokens <= self._window else self.refused).append(tokens)
        if tokens > self._window:
            said = f"This model's maximum context length is {self._window} tokens. However, you requested {tokens}."
            return Reply(failure="context_too_long", message=said)
        return self._answer(request)


def request_tokens(request: Request) -> int:
    """What a request takes of a context window: what is read, and the longest reply that it asks for."""
    segments, _ = _WIRE.segments(request.body)
    reply = request.body.get("max_completion_tokens") or request.body.get("max_tokens") or 0
    return sum(len(segment) // 4 + 1 for segment in segments) + int(reply)
