"""What is kept of a file's content to find it again: how often each term stands in which of its parts.

It depends on the content alone, so that it is made once and shared by all commits, branches and paths. The compact form
(``to_bytes``) is some kilobytes; ``VERSION`` changes whenever the same content would give something else.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apps.context.locating.terms import terms_of_words, words_of_bytes
from apps.context.parsing.source import utf8_of
from apps.context.parsing.types import ParsedFile

VERSION = 1
#: Besides the path, which is no part of the content. In this order everywhere.
FIELDS = ("names", "docstrings", "code", "strings", "comments")
_NAMED = frozenset({"section", "key"})
_CHUNKS = 3_000
_DEFINED = 3_000
_HEAD = struct.Struct("<III")
Ints = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Which piece of the file a chunk is."""

    kind: str
    qualified_name: str
    start_line: int
    end_line: int


@dataclass(frozen=True, slots=True)
class FileTerms:
    """``fields`` are rows of (field, term, count), ``chunks`` rows of (chunk, term, count); terms by their number."""

    language: str
    terms: tuple[str, ...]
    fields: Ints
    chunks: Ints
    places: tuple[ChunkPlace, ...]
    #: Names that the file defines, each once.
    defined: tuple[str, ...]

    def to_bytes(self) -> bytes:
        head = json.dumps(
            [self.language, self.terms, [[p.kind, p.qualified_name, p.start_line, p.end_line] for p in self.places]]
            + [self.defined],
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode("utf-8", "replace")
        fields, chunks = self.fields.astype("<u4").tobytes(), self.chunks.astype("<u4").tobytes()
        body = zlib.compress(head + fields + chunks, 1)
        return bytes([VERSION]) + _HEAD.pack(len(head), len(fields), len(chunks)) + body

    @classmethod
    def from_bytes(cls, stored: bytes) -> FileTerms:
        """ValueError where it was stored by another version, or is damaged."""
        if not stored or stored[0] != VERSION:
            raise ValueError("stored by another version")
        try:
            head_size, fields_size, chunks_size = _HEAD.unpack_from(stored, 1)
            body = zlib.decompress(stored[1 + _HEAD.size :])
            if len(body) != head_size + fields_size + chunks_size:
                raise ValueError("damaged")
            language, terms, places, defined = json.loads(body[:head_size])
        except (struct.error, zlib.error, ValueError) as error:
            raise ValueError("damaged") from error
        fields = np.frombuffer(body, dtype="<u4", count=fields_size // 4, offset=head_size).reshape(-1, 3)
        chunks = np.frombuffer(body, dtype="<u4", count=chunks_size // 4, offset=head_size + fields_size).reshape(-1, 3)
        return cls(
            language, tuple(terms), fields, chunks, tuple(ChunkPlace(*place) for place in places), tuple(defined)
        )


def file_terms(*, parsed: ParsedFile, content: bytes) -> FileTerms:
    """The terms of a parsed file. ``content`` is what it was parsed from."""
    content = utf8_of(content)
    places: list[ChunkPlace] = []
    by_chunk: list[dict[str, int]] = []
    whole: Counter[bytes] = Counter()
    for chunk in parsed.chunks[:_CHUNKS]:
        words = words_of_bytes(chunk.text.encode())
        whole.update(words)
        places.append(ChunkPlace(chunk.kind, chunk.qualified_name, chunk.start_line, chunk.end_line))
        by_chunk.append(terms_of_words(words))
    zones: dict[str, list[bytes]] = {"docstring": [], "string": [], "comment": []}
    for zone in parsed.zones:
        if zone.kind != "name":
            zones[zone.kind].append(content[zone.start : zone.end])
    docs, strings, comments = (words_of_bytes(b"\n".join(zones[kind])) for kind in zones)
    code = whole
    for other in (docs, strings, comments):
        code.subtract(other)
    names = Counter(
        symbol.name.encode() for symbol in parsed.symbols if symbol.kind not in _NAMED and len(symbol.name) <= 80
    )
    numbers: dict[str, int] = {}
    fields = _rows([terms_of_words(+words) for words in (names, docs, code, strings, comments)], numbers)
    chunks = _rows(by_chunk, numbers)
    defined = dict.fromkeys(symbol.name for symbol in parsed.symbols if symbol.kind not in _NAMED)
    return FileTerms(
        parsed.language,
        tuple(numbers),
        fields,
        chunks,
        tuple(places),
        tuple(list(defined)[:_DEFINED]),
    )


def _rows(counts: Sequence[dict[str, int]], numbers: dict[str, int]) -> Ints:
    """(which, term, count) for all terms of all of them; new terms get the next number."""
    sizes = [len(each) for each in counts]
    rows = np.empty((sum(sizes), 3), dtype=np.uint32)
    rows[:, 0] = np.repeat(np.arange(len(counts), dtype=np.uint32), sizes)
    rows[:, 1] = [numbers.setdefault(term, len(numbers)) for each in counts for term in each]
    rows[:, 2] = [count for each in counts for count in each.values()]
    return rows
