"""A file's bytes, and which line each of them is in."""

from __future__ import annotations

import codecs
from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    content: bytes
    #: The offset at which each line begins.
    starts: list[int]

    @classmethod
    def of(cls, content: bytes) -> Source:
        starts, at = [0], content.find(b"\n")
        while at >= 0:
            starts.append(at + 1)
            at = content.find(b"\n", at + 1)
        if len(starts) > 1 and starts[-1] == len(content):
            starts.pop()
        return cls(content, starts)

    @property
    def lines(self) -> int:
        return len(self.starts) if self.content else 0

    def line_of(self, offset: int) -> int:
        """The line that holds this byte, from 1."""
        return bisect_right(self.starts, offset)

    def last_line_of(self, start: int, end: int) -> int:
        """The line that holds the last byte of a range."""
        return self.line_of(max(start, end - 1))

    def text(self, start: int, end: int) -> str:
        return self.content[start:end].decode("utf-8", "replace").replace("\x00", "\ufffd")

    def offset_of(self, line: int) -> int:
        """Where a line begins; the one after the last: where the file ends."""
        return self.starts[line - 1] if line <= len(self.starts) else len(self.content)

    def lines_text(self, first: int, last: int) -> str:
        """Lines, both ends included, without the last line end."""
        return self.text(self.offset_of(first), self.offset_of(last + 1)).rstrip("\n")


def utf8_of(content: bytes) -> bytes:
    """The same in UTF-8 where a mark at the start says that it is UTF-16 or UTF-32, and without that mark."""
    for mark, encoding in (
        (codecs.BOM_UTF8, ""),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(mark):
            return content.decode(encoding, "replace").encode("utf-8", "replace") if encoding else content[len(mark) :]
    return content
