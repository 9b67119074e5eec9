"""Pairs of any language that Archon parses, by the grammars and rules of its index."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from apps.context.parsing.parse import file_parse
from apps.context.parsing.types import ParsedFile, Symbol
from training.pairs import Pair, first_line, first_sentence, lines_kept, prose_of, query_of

#: What doc comments describe, and people look for by what it does.
_DESCRIBED = frozenset({"function", "method", "class", "interface", "struct", "enum", "trait"})


class Undocumented(NamedTuple):
    """A file without its doc comments, and what these said of which name."""

    content: str
    questions: tuple[tuple[str, str], ...]


def grammar_pairs(*, path: str, content: bytes) -> Iterator[Pair]:
    parsed = file_parse(path=path, content=content)
    if parsed.is_generated or not parsed.language:
        return
    lines = content.decode("utf-8", "replace").split("\n")
    documented = list(_documented(parsed, content))
    gone = {number for _, cut in documented for number in cut}
    for symbol, _ in documented:
        query = symbol_query(parsed.language, symbol)
        # The chunk that it begins in, from the comments before it on.
        chunk = next(
            (
                each
                for each in parsed.chunks
                if each.start_line <= symbol.start_line <= each.end_line
                and each.qualified_name == symbol.qualified_name
            ),
            None,
        )
        if not query or chunk is None:
            continue
        text = lines_kept(
            [lines[number - 1] for number in range(chunk.start_line, chunk.end_line + 1) if number not in gone]
        )
        if text:
            prose = prose_of(symbol.docstring, query)
            yield Pair(parsed.language, query, prose, path, symbol.qualified_name, text)


def file_undocumented(*, path: str, content: bytes) -> Undocumented:
    """The file as it would be had nobody described anything, and the questions that the descriptions are."""
    parsed = file_parse(path=path, content=content)
    lines = content.decode("utf-8", "replace").split("\n")
    documented = list(_documented(parsed, content))
    gone = {number for _, cut in documented for number in cut}
    questions = []
    for symbol, _ in documented:
        query = symbol_query(parsed.language, symbol)
        size = sum(
            1
            for number in range(symbol.start_line, symbol.end_line + 1)
            if number not in gone and lines[number - 1].strip()
        )
        if query and size >= 3:
            questions.append((query, symbol.qualified_name))
    kept = [line for number, line in enumerate(lines, 1) if number not in gone]
    return Undocumented("\n".join(kept), tuple(questions))


def symbol_query(language: str, symbol: Symbol) -> str:
    if language == "python":
        return query_of(first_line(symbol.docstring))
    return query_of(first_sentence(symbol.docstring, name=symbol.name))


def _documented(parsed: ParsedFile, content: bytes) -> Iterator[tuple[Symbol, list[int]]]:
    """The symbols that are described, and the lines that do so."""
    starts = [0]
    at = content.find(b"\n")
    while at >= 0:
        starts.append(at + 1)
        at = content.find(b"\n", at + 1)
    ending: dict[int, int] = {}
    inside: list[tuple[int, int]] = []
    for zone in parsed.zones:
        if zone.kind in ("comment", "docstring"):
            first, last = bisect_right(starts, zone.start), bisect_right(starts, max(zone.end - 1, zone.start))
            if zone.kind == "docstring":
                inside.append((first, last))
            elif not content[starts[first - 1] : zone.start].strip():
                ending[last] = first
    for symbol in parsed.symbols:
        if not symbol.docstring or symbol.kind not in _DESCRIBED:
            continue
        cut: list[int] = []
        line = symbol.start_line
        while (begins := ending.get(line - 1)) is not None and begins < line:
            cut.extend(range(begins, line))
            line = begins
        if not cut:
            found = next(
                (lines for lines in inside if symbol.start_line <= lines[0] and lines[1] <= symbol.end_line), None
            )
            if found is None:
                continue
            cut = list(range(found[0], found[1] + 1))
        yield symbol, cut
