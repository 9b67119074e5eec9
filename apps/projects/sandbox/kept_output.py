"""Output that is kept to be read in pages: its beginning and its end, within a bound."""

from __future__ import annotations

from apps.projects.workspace import OutputPage

#: The share of the bound that the beginning gets.
_HEAD_SHARE = 4


class KeptOutput:
    """Bytes as they come, addressed by their offset in all that came; when there are too many, the middle goes."""

    def __init__(self, *, limit: int) -> None:
        self._head_limit = limit // _HEAD_SHARE
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._head_limit - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        # Not at each piece: moving the rest of a megabyte takes a while.
        if len(self._tail) > 2 * self._tail_limit:
            del self._tail[: len(self._tail) - self._tail_limit]

    @property
    def missing(self) -> tuple[int, int]:
        """From where to where nothing is kept; the same twice: all is there."""
        kept = min(len(self._tail), self._tail_limit) if self._dropped else len(self._tail)
        return len(self._head), self.total - kept

    @property
    def _dropped(self) -> bool:
        return self.total - len(self._head) > self._tail_limit

    def page(self, *, offset: int, limit: int) -> OutputPage:
        """From an offset on (a negative one counts from the end), at most ``limit`` bytes, decoded with replacement.

        A page doesn't end within a character, and not within a gap: what follows the gap is a page of its own.
        """
        start = max(0, self.total + offset if offset < 0 else offset)
        gap, resumed = self.missing
        if gap <= start < resumed:
            start = resumed
        end = min(start + limit, gap if start < gap else self.total)
        if start < gap:
            data = bytes(self._head[start:end])
        else:
            at = len(self._tail) - (self.total - start)
            data = bytes(self._tail[at : at + max(0, end - start)]) if start < self.total else b""
        data = _whole_characters(data)
        # What was asked for past the end is answered from the end.
        start = min(start, self.total)
        return OutputPage(data.decode(errors="replace"), start, start + len(data), self.total)


def _whole_characters(data: bytes) -> bytes:
    """The data without a character at its end of which only a part is there."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        cut = data[:-back]
        return cut if length > back and cut else data
    return data
