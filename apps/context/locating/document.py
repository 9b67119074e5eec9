"""What is kept of a file's content to find it again: how often each term stands in which of its parts.

It depends on the content alone, so that it is made once and shared by all commits, branches and paths. The compact form
(``to_bytes``) is some kilobytes; ``VERSION`` changes whenever the same content would give something else.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from apps.context.locating.terms import terms_of_words, words_of_bytes

VERSION = 1
#: Besides the path, which is no part of the content. In this order everywhere.
FIELDS = ("names", "docstrings", "code")
_NAMED = frozenset({"section", "key"})
_CHUNKS, _DEFINED, _NAME = 3_000, 3_000, 80
_HEAD = struct.Struct("<III")
Ints = npt.NDArray[np.uint32]


class ChunkText(Protocol):
    """A chunk, as the parser or the index has it."""

    @property
    def kind(self) -> str: ...
    @property
    def qualified_name(self) -> str: ...
    @property
    def start_line(self) -> int: ...
    @property
    def end_line(self) -> int: ...
    @property
    def text(self) -> str: ...


class Named(Protocol):
    """A definition, likewise."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def docstring(self) -> str: ...


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
        # Thousands of files are held, and most of their words are the same: each is there once.
        return cls(
            sys.intern(language),
            tuple(map(sys.intern, terms)),
            fields.astype(np.uint32),
            chunks.astype(np.uint32),
            tuple(ChunkPlace(sys.intern(kind), sys.intern(name), first, last) for kind, name, first, last in places),
            tuple(map(sys.intern, defined)),
        )


def file_terms(*, language: str, chunks: Iterable[ChunkText], symbols: Iterable[Named]) -> FileTerms:
    """The terms of a file, given its chunks and what it defines."""
    places: list[ChunkPlace] = []
    by_chunk: list[dict[str, int]] = []
    code: Counter[bytes] = Counter()
    for chunk in islice(chunks, _CHUNKS):
        words = words_of_bytes(chunk.text.encode())
        for word, count in words.items():
            code[word] += count
        places.append(ChunkPlace(chunk.kind, chunk.qualified_name, chunk.start_line, chunk.end_line))
        by_chunk.append(terms_of_words(words))
    named = [symbol for symbol in symbols if symbol.kind not in _NAMED]
    docs = words_of_bytes("\n".join(symbol.docstring for symbol in named).encode())
    code.subtract(docs)
    names = Counter(symbol.name.encode() for symbol in named if len(symbol.name) <= _NAME)
    numbers: dict[str, int] = {}
    fields = _rows([terms_of_words(+words) for words in (names, docs, code)], numbers)
    rows = _rows(by_chunk, numbers)
    defined = dict.fromkeys(symbol.name for symbol in named if len(symbol.name) <= _NAME)
    return FileTerms(language, tuple(numbers), fields, rows, tuple(places), tuple(islice(defined, _DEFINED)))


def _rows(counts: Sequence[dict[str, int]], numbers: dict[str, int]) -> Ints:
    """(which, term, count) for all terms of all of them; new terms get the next number."""
    sizes = [len(each) for each in counts]
    rows = np.empty((sum(sizes), 3), dtype=np.uint32)
    rows[:, 0] = np.repeat(np.arange(len(counts), dtype=np.uint32), sizes)
    rows[:, 1] = [numbers.setdefault(term, len(numbers)) for each in counts for term in each]
    rows[:, 2] = [count for each in counts for count in each.values()]
    return rows
