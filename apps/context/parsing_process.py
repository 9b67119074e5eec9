"""``python -m apps.context.parsing_process``: parses files for an index, apart from everything else.

A grammar is native code that reads what strangers wrote: if it dies of that, or never ends, this process does, and the
file that it was at is said to have failed. It has no database, no settings and no network, and bounded memory; a frame
on standard input asks for some files, a frame on standard output has their rows, ready for COPY.

A frame is its number of parts, their lengths, and the parts; the first part is JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import numpy as np

from apps.context import copy_rows as rows
from apps.context.parser_version import PARSER_VERSION
from apps.context.parsing.parse import file_parse
from apps.context.parsing.types import ParsedFile
from apps.context.postings import length_byte, records_pack
from apps.context.terms import word_terms, words_count

_MEMORY_BYTES = 1 << 30
_COUNT = struct.Struct(">I")
_SIZE = struct.Struct(">Q")
#: Of one file; what is more says nothing more about it.
_MAX_REFERENCES = 20_000
_MAX_DOCSTRING = 2_000
_MAX_SIGNATURE = 1_000
#: So often a chunk's name counts besides once in its header.
NAME_WEIGHT = 4


def frame_write(stream: IO[bytes], parts: Sequence[bytes]) -> None:
    stream.write(_COUNT.pack(len(parts)))
    for part in parts:
        stream.write(_SIZE.pack(len(part)))
    for part in parts:
        stream.write(part)
    stream.flush()


def frame_read(stream: IO[bytes]) -> list[bytes] | None:
    """The next frame; None at the end."""
    head = stream.read(_COUNT.size)
    if len(head) < _COUNT.size:
        return None
    (number,) = _COUNT.unpack(head)
    sizes = [_SIZE.unpack(_exactly(stream, _SIZE.size))[0] for _ in range(number)]
    return [_exactly(stream, size) for size in sizes]


def _exactly(stream: IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise EOFError("the frame ends in the middle")
    return found


@dataclass
class _Batch:
    """What the files of one request come to."""

    index_id: int
    next_chunk: int
    now: datetime

    def __post_init__(self) -> None:
        self.files: list[bytes] = []
        self.chunks: list[bytes] = []
        self.symbols: list[bytes] = []
        self.facts: list[dict[str, Any]] = []
        self.vocabulary: dict[str, int] = {}
        #: The numbers of the terms of each word.
        self._numbers: dict[str, tuple[int, ...]] = {}
        self.term_numbers = array("I")
        self.chunk_ids = array("q")
        self.counts = array("B")
        self.lengths = array("B")
        self.total_length = 0
        self.chunk_count = 0

    def add(self, *, file_id: int, path: str, blob: str, size: int, parsed: ParsedFile) -> None:
        if parsed.is_generated:
            self._file(file_id, path, blob, size, parsed, state="skipped", reason="it is generated, or minified")
            return
        if parsed.broken and not parsed.chunks:
            # Nothing of it is found.
            self._file(file_id, path, blob, size, parsed, state="skipped", reason=parsed.broken)
            return
        state = "parsed" if parsed.symbols or (parsed.language and not parsed.broken) else "lines"
        index, file = rows.big_field(self.index_id), rows.big_field(file_id)
        for chunk in parsed.chunks:
            chunk_id = self.next_chunk
            self.next_chunk += 1
            self.chunks.append(
                rows.row(
                    rows.big_field(chunk_id),
                    index,
                    file,
                    rows.text_field(chunk.kind),
                    rows.text_field(chunk.qualified_name),
                    rows.int_field(chunk.start_line),
                    rows.int_field(chunk.end_line),
                    rows.text_field(chunk.text),
                )
            )
            self._terms(chunk_id, f"{chunk.header}\n{chunk.text}", chunk.qualified_name)
        for symbol in parsed.symbols:
            self.symbols.append(
                rows.row(
                    index,
                    file,
                    rows.text_field(symbol.name),
                    rows.text_field(symbol.name.lower()),
                    rows.text_field(symbol.qualified_name),
                    rows.text_field(symbol.kind),
                    rows.int_field(symbol.start_line),
                    rows.int_field(symbol.end_line),
                    rows.text_field(symbol.signature[:_MAX_SIGNATURE]),
                    rows.text_field(symbol.docstring[:_MAX_DOCSTRING]),
                    rows.int_field(symbol.complexity),
                )
            )
        self._file(file_id, path, blob, size, parsed, state=state, reason=parsed.broken)

    def _terms(self, chunk_id: int, text: str, name: str) -> None:
        counted: dict[int, int] = {}
        self._count(counted, text, 1)
        # What it is called says more of it than what is said in it (docs/decisions/0019).
        self._count(counted, name, NAME_WEIGHT)
        length = sum(counted.values())
        self.total_length += length
        self.chunk_count += 1
        number = len(counted)
        self.term_numbers.extend(counted)
        self.counts.extend([times if times < 256 else 255 for times in counted.values()])
        self.chunk_ids.extend([chunk_id] * number)
        self.lengths.extend([length_byte(length)] * number)

    def _count(self, counted: dict[int, int], text: str, weight: int) -> None:
        """As ``text_terms`` counts, by the terms' numbers: most of the time of a batch would go into the names."""
        known = self._numbers
        for word, times in words_count(text).items():
            numbers = known.get(word)
            if numbers is None:
                vocabulary = self.vocabulary
                terms = word_terms(word)
                numbers = known[word] = tuple([vocabulary.setdefault(term, len(vocabulary)) for term in terms])
            for term in numbers:
                counted[term] = counted.get(term, 0) + times * weight

    def _file(
        self, file_id: int, path: str, blob: str, size: int, parsed: ParsedFile, *, state: str, reason: str
    ) -> None:
        kept = state != "skipped"
        analysis = (
            json.dumps(
                {
                    "references": [list(reference) for reference in parsed.references[:_MAX_REFERENCES]],
                    "imports": [list(found) for found in parsed.imports],
                    "todos": [list(todo) for todo in parsed.todos],
                },
                separators=(",", ":"),
            )
            if kept
            else ""
        )
        chunks, symbols = (len(parsed.chunks), len(parsed.symbols)) if kept else (0, 0)
        self.files.append(
            file_row(
                file_id=file_id,
                index_id=self.index_id,
                path=path,
                blob=blob,
                state=state,
                reason=reason,
                language=parsed.language,
                size=size,
                lines=parsed.lines,
                symbols=symbols,
                chunks=chunks,
                complexity=parsed.complexity if kept else 0,
                analysis=analysis,
                now=self.now,
            )
        )
        self.facts.append({"state": state, "lines": parsed.lines, "chunks": chunks, "symbols": symbols})

    def parts(self) -> list[bytes]:
        numbers = np.frombuffer(self.term_numbers, np.uint32)
        packed = records_pack(
            chunk_ids=np.frombuffer(self.chunk_ids, np.int64),
            counts=np.frombuffer(self.counts, np.uint8),
            lengths=np.frombuffer(self.lengths, np.uint8),
        )
        order = np.argsort(numbers, kind="stable")
        per_term = np.bincount(numbers, minlength=len(self.vocabulary)).astype("<u4")
        answer = {
            "files": self.facts,
            "chunks": self.chunk_count,
            "length": self.total_length,
            "next_chunk": self.next_chunk,
        }
        return [
            json.dumps(answer).encode(),
            b"".join(self.files),
            b"".join(self.chunks),
            b"".join(self.symbols),
            "\n".join(self.vocabulary).encode("utf-8", "replace"),
            per_term.tobytes(),
            packed[order].tobytes(),
        ]


def file_row(
    *,
    file_id: int,
    index_id: int,
    path: str,
    blob: str,
    state: str,
    reason: str,
    size: int,
    now: datetime,
    language: str = "",
    lines: int = 0,
    symbols: int = 0,
    chunks: int = 0,
    complexity: int = 0,
    analysis: str = "",
    parser: int = PARSER_VERSION,
) -> bytes:
    """A row of ``context_codefile``, its columns in the order of ``FILE_COLUMNS``."""
    return rows.row(
        rows.big_field(file_id),
        rows.big_field(index_id),
        rows.text_field(path),
        rows.text_field(blob),
        rows.small_field(parser),
        rows.text_field(state),
        rows.text_field(reason[:1000]),
        rows.text_field(language[:40]),
        rows.big_field(size),
        rows.int_field(lines),
        rows.int_field(symbols),
        rows.int_field(chunks),
        rows.int_field(complexity),
        rows.text_field(analysis),
        rows.time_field(now),
    )


FILE_COLUMNS = (
    "id, index_id, path, blob, parser, state, reason, language, size, lines, symbol_count, chunk_count, complexity, "
    "analysis, indexed_at"
)
CHUNK_COLUMNS = "id, index_id, file_id, kind, qualified_name, start_line, end_line, text"
SYMBOL_COLUMNS = (
    "index_id, file_id, name, folded, qualified_name, kind, start_line, end_line, signature, docstring, complexity"
)


def request_answer(parts: Sequence[bytes]) -> list[bytes]:
    """The frame for one request: its JSON names the files whose contents follow."""
    asked = json.loads(parts[0])
    batch = _Batch(index_id=asked["index"], next_chunk=asked["first_chunk"], now=datetime.now(UTC))
    for wanted, content in zip(asked["files"], parts[1:], strict=True):
        parsed = file_parse(path=wanted["path"], content=content, by_lines=asked.get("by_lines", ""))
        batch.add(file_id=wanted["id"], path=wanted["path"], blob=wanted["blob"], size=len(content), parsed=parsed)
    return batch.parts()


def main() -> None:
    # Here, since the pool imports this module on systems that don't have it.
    import resource

    # What is printed by accident must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    os.nice(5)
    # What a batch is made of is gone with it; looking for circles in it takes a tenth of the time.
    gc.set_threshold(200_000, 20, 20)
    requests = os.fdopen(0, "rb")
    while (parts := frame_read(requests)) is not None:
        frame_write(answers, request_answer(parts))


if __name__ == "__main__":
    main()
