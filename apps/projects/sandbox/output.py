"""Keeping the beginning and the end of a command's output, whatever its length."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class OutputBuffer:
    """Output as it comes: decoded pieces to a listener, head and tail kept within ``limit`` bytes."""

    def __init__(self, *, limit: int, listener: Callable[[str], None] | None = None) -> None:
        self._limit = limit
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0
        self._listener = listener
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def truncated(self) -> bool:
        return self._total > self._limit

    def add(self, data: bytes) -> None:
        """Take a piece. The listener hears no more than ``limit`` bytes altogether, the beginning."""
        if self._listener is not None and self._total < self._limit:
            text = self._decoder.decode(data[: self._limit - self._total])
            if text:
                self._listener(text)
        self._total += len(data)
        room = (self._limit + 1) // 2 - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        excess = len(self._tail) - self._limit // 2
        if excess > 0:
            del self._tail[:excess]

    def text(self) -> str:
        """What was kept, with a line that says how much was left out."""
        if not self.truncated:
            return (self._head + self._tail).decode(errors="replace")
        left_out = self._total - len(self._head) - len(self._tail)
        head, tail = self._head.decode(errors="replace"), self._tail.decode(errors="replace")
        return f"{head}\n[... {left_out} bytes left out ...]\n{tail}"
