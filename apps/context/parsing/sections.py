"""From marks in a document to its sections: symbols, and chunks that gather what is too small to stand alone."""

from __future__ import annotations

from collections.abc import Sequence

from apps.context.parsing.chunking import Range
from apps.context.parsing.dialects.base import Mark
from apps.context.parsing.outline import SIGNATURE_LIMIT
from apps.context.parsing.source import Source
from apps.context.parsing.types import Symbol

SECTION_LIMIT = 4_000
#: Keys and rules are gathered up to this many characters, sections of a text up to fewer.
_GATHERED_KEYS, _GATHERED_SECTIONS = 1_500, 300


def sections_of(source: Source, marks: Sequence[Mark]) -> tuple[list[Symbol], list[Range]]:
    """The symbols, and the ranges of the chunks: they cover the whole document."""
    ordered = sorted(marks, key=lambda mark: (mark.start, mark.level))[:SECTION_LIMIT]
    symbols: list[Symbol] = []
    above: list[tuple[Mark, str]] = []
    ends = _ends(ordered, source.lines)
    cuts: list[tuple[int, str]] = []
    for mark, end in zip(ordered, ends, strict=True):
        while above and above[-1][0].level >= mark.level:
            above.pop()
        separator = "." if mark.kind in ("key", "rule") else " > "
        qualified = f"{above[-1][1]}{separator}{mark.name}" if above else mark.name
        above.append((mark, qualified))
        signature = source.lines_text(mark.start_line, mark.start_line).strip()[:SIGNATURE_LIMIT]
        symbols.append(Symbol(mark.name, qualified, mark.kind, mark.start_line, end, signature, "", 0))
        if mark.level < 9 and (not cuts or cuts[-1][0] < mark.start_line):
            cuts.append((mark.start_line, qualified))
    texts = any(mark.kind == "section" for mark in ordered)
    return symbols, _ranges(source, cuts, _GATHERED_SECTIONS if texts else _GATHERED_KEYS)


def _ends(ordered: Sequence[Mark], lines: int) -> list[int]:
    """Where each section ends: where it says, or before the next one of its level or above."""
    ends = [0] * len(ordered)
    open_: list[int] = []
    for index, mark in enumerate(ordered):
        while open_ and ordered[open_[-1]].level >= mark.level:
            before = open_.pop()
            ends[before] = max(ordered[before].start_line, mark.start_line - 1)
        if mark.end_line:
            ends[index] = min(mark.end_line, lines)
        else:
            open_.append(index)
    for index in open_:
        ends[index] = lines
    return ends


def _ranges(source: Source, cuts: Sequence[tuple[int, str]], limit: int) -> list[Range]:
    if source.lines == 0:
        return []
    starts = [(1, ""), *cuts] if not cuts or cuts[0][0] > 1 else list(cuts)
    ranges: list[Range] = []
    for index, (first, name) in enumerate(starts):
        last = starts[index + 1][0] - 1 if index + 1 < len(starts) else source.lines
        before = ranges[-1] if ranges else None
        if before is not None:
            gathered = source.offset_of(last + 1) - source.offset_of(before.first)
            if gathered <= limit:
                ranges[-1] = Range("section", before.qualified_name or name, before.first, last)
                continue
        ranges.append(Range("section", name, first, last))
    return ranges
