"""Cut a file into pieces that are found as one: functions, what is left of classes, sections, or lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apps.context.parsing.outline import CONTAINERS, Definition
from apps.context.parsing.source import Source
from apps.context.parsing.types import Chunk, ChunkKind, chunk_header

#: The most that a chunk holds, in characters.
CHUNK_LIMIT = 6_000
#: How many lines stand together where there is no structure to go by.
LINES = 60
#: What closes a block, and says nothing.
_CLOSING = re.compile(rb"[\s{}()\[\];,]*(?:end|fi|done|esac)?[\s{}()\[\];,]*")
_CLOSING_LINES = 8


@dataclass(frozen=True, slots=True)
class Range:
    kind: ChunkKind
    qualified_name: str
    first: int
    last: int


def chunks_of_outline(*, path: str, source: Source, definitions: Sequence[Definition]) -> tuple[Chunk, ...]:
    """Every function whole, with the comments before it; then what lies between, by the class it stands in."""
    ranges: list[Range] = []
    _cover(ranges, source, _tops(definitions), "module", "", 1, source.lines)
    return chunks_of_ranges(path=path, source=source, ranges=ranges)


def chunks_of_lines(*, path: str, source: Source) -> tuple[Chunk, ...]:
    ranges = [
        Range("lines", "", first, min(first + LINES - 1, source.lines)) for first in range(1, source.lines + 1, LINES)
    ]
    return chunks_of_ranges(path=path, source=source, ranges=ranges)


def chunks_of_ranges(*, path: str, source: Source, ranges: Sequence[Range]) -> tuple[Chunk, ...]:
    """A chunk for each range, or several where one is too long; none for what is blank."""
    made: list[Chunk] = []
    for each in ranges:
        header = chunk_header(path=path, qualified_name=each.qualified_name)
        for first, last, text in _pieces(source, each.first, each.last):
            if text.strip():
                made.append(Chunk(each.kind, each.qualified_name, first, last, header, text))
    return tuple(made)


def _tops(definitions: Sequence[Definition]) -> list[Definition]:
    return [each for each in definitions if each.parent is None]


def _cover(
    ranges: list[Range],
    source: Source,
    children: Sequence[Definition],
    kind: ChunkKind,
    name: str,
    first: int,
    last: int,
) -> None:
    """Cover the lines with the ranges of what is defined there, and of what is left between."""
    at = first
    for child in children:
        if not child.is_chunk:
            continue
        start, end = max(child.lead_line, at), min(child.end_line, last)
        if end < start:
            continue  # on a line that another chunk holds
        if start > at:
            _leave(ranges, source, Range(kind, name, at, start - 1))
        if child.kind not in CONTAINERS:
            inner: ChunkKind = (
                "method" if child.kind == "method" else "function" if child.kind == "function" else "section"
            )
            ranges.append(Range(inner, child.qualified_name, start, end))
        elif child.start_line == child.end_line:
            ranges.append(Range("class", child.qualified_name, start, end))
        else:
            inner = "module" if child.kind in ("module", "namespace") else "class"
            _cover(ranges, source, child.children, inner, child.qualified_name, start, end)
        at = end + 1
    if at <= last:
        _leave(ranges, source, Range(kind, name, at, last))


def _leave(ranges: list[Range], source: Source, left: Range) -> None:
    """What lies between definitions is a range of its own; closing braces belong to what they close."""
    if (
        ranges
        and left.last - left.first < _CLOSING_LINES
        and _CLOSING.fullmatch(source.content, source.offset_of(left.first), source.offset_of(left.last + 1))
    ):
        before = ranges[-1]
        if before.last == left.first - 1:
            ranges[-1] = Range(before.kind, before.qualified_name, before.first, left.last)
            return
    ranges.append(left)


def _pieces(source: Source, first: int, last: int) -> Iterator[tuple[int, int, str]]:
    """The lines as they are, or in pieces of at most the limit, cut at blank lines where there are some."""
    size = source.offset_of(last + 1) - source.offset_of(first)
    if size <= CHUNK_LIMIT:
        yield first, last, source.lines_text(first, last)
        return
    start = first
    while start <= last:
        end, blank, room = start, 0, CHUNK_LIMIT
        room -= source.offset_of(start + 1) - source.offset_of(start)
        while end < last:
            size = source.offset_of(end + 2) - source.offset_of(end + 1)
            if size > room:
                break
            room -= size
            end += 1
            if not source.lines_text(end, end).strip():
                blank = end
        if end < last and blank > start and 2 * (blank - start) > end - start:
            end = blank
        yield start, end, source.lines_text(start, end)[:CHUNK_LIMIT]
        start = end + 1
