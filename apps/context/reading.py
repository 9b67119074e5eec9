"""Reading files for an index: which of them have been read already, and the rows of those that have not.

Parsers work ahead while what they have made is written, in few transactions that take longer each time: a file's row,
its chunks and its postings stand together or not at all, so whoever finds the row finds the file by its words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.db import connection
from django.utils import timezone

from apps.context import writing
from apps.context.parser_pool import ParsedBatch, ParseFile, chunk_ids_needed, parser_pool
from apps.context.parser_version import PARSER_VERSION
from apps.context.types import Lease
from apps.context.walking import TreeFile, contents_read, is_binary
from apps.context.writing import PostingsBuffer, index_locked
from apps.core.kill_points import kill_point

#: Of one request to a parser; the first ones are small, so that something is found soon.
_BATCH_FILES = 120
_BATCH_BYTES = 2 << 20
_FIRST_BATCH_FILES = 20
#: After how long the first files are written; each later time takes twice as long as the one before, up to the most.
_WRITE_SECONDS = 1.0
_WRITE_MOST_SECONDS = 8.0
_WRITE_CHUNKS = 20_000
_LOOK_SECONDS = 2.0
_SKIPPED = 5_000
_KNOWN = 20_000

#: Files with the ids of their rows.
Numbered = Sequence[tuple[int, TreeFile]]
#: Told of files in the transaction that writes them.
Done = Callable[[Any, Numbered], None]


class WorkStopped(Exception):
    """The job is to stop here; what was read is kept."""


@dataclass
class Tally:
    """How far a job is."""

    files_done: int = 0
    files_total: int = 0
    chunks: int = 0
    symbols: int = 0
    skipped: int = 0
    failed: int = 0

    def told(self, phase: str) -> dict[str, Any]:
        return {
            "phase": phase,
            "files_done": self.files_done,
            "files_total": self.files_total,
            "chunks": self.chunks,
            "symbols": self.symbols,
            "skipped": self.skipped,
            "failed": self.failed,
        }


@dataclass(frozen=True)
class _Asked:
    """A batch that a parser has."""

    files: tuple[tuple[int, TreeFile], ...]
    answer: Future[list[ParsedBatch]]


class FilesReader:
    """Reads files of one repository into one index, for one job."""

    def __init__(self, *, lease: Lease, index_id: int, git_dir: Path, pause: Callable[[], None]) -> None:
        """``pause`` is called between two pieces of work; it may raise WorkStopped."""
        self._lease = lease
        self._index_id = index_id
        self._git_dir = git_dir
        self._pause = pause
        self.tally = Tally()
        #: Files that were asked for.
        self.asked = 0

    def read(self, files: Sequence[TreeFile], done: Done) -> None:
        """Have a row for each file; ``done`` is told of all of them."""
        self.asked += len(files)
        self.tally.files_total = len(files)
        known = self._rows_known(files)
        self.tally.files_done = len(known)
        if known:
            with index_locked(self._lease) as cursor:
                done(cursor, known)
        there = {file.path for _, file in known}
        missing = [file for file in files if file.path not in there]
        skipped = [file for file in missing if file.skip]
        for start in range(0, len(skipped), _SKIPPED):
            self._skipped_write(skipped[start : start + _SKIPPED], done)
        self._parse([file for file in missing if not file.skip], done)

    def _parse(self, files: Sequence[TreeFile], done: Done) -> None:
        waiting: list[_Asked] = []
        unwritten: list[_Asked] = []
        most = parser_pool().processes + 1
        batches = _batches(files)
        write_after, written = _WRITE_SECONDS, time.monotonic()
        more = True
        try:
            while more or waiting:
                while more and len(waiting) < most:
                    batch = next(batches, None)
                    if batch is None:
                        more = False
                    elif (asked := self._ask(batch, done)) is not None:
                        waiting.append(asked)
                kill_point("index.parsing")
                if waiting:
                    wait([asked.answer for asked in waiting], timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                unwritten += [asked for asked in waiting if asked.answer.done()]
                waiting = [asked for asked in waiting if not asked.answer.done()]
                self._pause()
                chunks = sum(batch.chunk_count for asked in unwritten for batch in asked.answer.result())
                if time.monotonic() - written > write_after or chunks > _WRITE_CHUNKS:
                    self._write(unwritten, done)
                    unwritten = []
                    write_after, written = min(write_after * 2, _WRITE_MOST_SECONDS), time.monotonic()
        except WorkStopped:
            self._write(unwritten, done)
            raise
        finally:
            for asked in waiting:
                asked.answer.cancel()
        self._write(unwritten, done)

    def _write(self, ready: Sequence[_Asked], done: Done) -> None:
        if not ready:
            return
        tally, buffer = self.tally, PostingsBuffer()
        with index_locked(self._lease) as cursor:
            for asked in ready:
                batches = asked.answer.result()
                writing.batch_write(cursor, batches=batches, buffer=buffer)
                done(cursor, asked.files)
            writing.postings_flush(cursor, lease=self._lease, buffer=buffer)
            kill_point("index.writing")
        kill_point("index.written")
        for asked in ready:
            tally.files_done += len(asked.files)
            for facts in (facts for batch in asked.answer.result() for facts in batch.facts):
                tally.chunks += facts["chunks"]
                tally.symbols += facts["symbols"]
                tally.skipped += facts["state"] == "skipped"
                tally.failed += facts["state"] == "failed"

    def _rows_known(self, files: Sequence[TreeFile]) -> list[tuple[int, TreeFile]]:
        """Those of the files that have a row already, from another tree or an earlier attempt."""
        found: list[tuple[int, TreeFile]] = []
        for start in range(0, len(files), _KNOWN):
            part = {(file.path, file.blob, file.parser): file for file in files[start : start + _KNOWN]}
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT id, path, blob, parser FROM context_codefile WHERE index_id = %s AND path = ANY(%s)",
                    [self._index_id, [path for path, _, _ in part]],
                )
                found += [(row[0], part[key]) for row in cursor.fetchall() if (key := (row[1], row[2], row[3])) in part]
        return found

    def _ask(self, files: Sequence[TreeFile], done: Done) -> _Asked | None:
        """Hand a batch to a parser; what is binary is written at once."""
        contents = list(contents_read(git_dir=self._git_dir, blobs=[file.blob for file in files]))
        texts = [(file, content) for file, content in zip(files, contents, strict=True) if not is_binary(content)]
        binary = [
            replace(file, skip="it is binary")
            for file, content in zip(files, contents, strict=True)
            if is_binary(content)
        ]
        if binary:
            # Keyed as one that was read: what is in it has said so.
            self._skipped_write(binary, done, parser=PARSER_VERSION)
        if not texts:
            return None
        first_file = writing.ids_take(len(texts))
        parse = [
            ParseFile(first_file + number, file.path, file.blob, content)
            for number, (file, content) in enumerate(texts)
        ]
        first_chunk = writing.ids_take(chunk_ids_needed(parse))
        answer = parser_pool().submit(index_id=self._index_id, files=parse, first_chunk=first_chunk)
        return _Asked(tuple((file.id, tree) for file, (tree, _) in zip(parse, texts, strict=True)), answer)

    def _skipped_write(self, files: Sequence[TreeFile], done: Done, *, parser: int | None = None) -> None:
        first = writing.ids_take(len(files))
        numbered = [(first + number, file) for number, file in enumerate(files)]
        with index_locked(self._lease) as cursor:
            writing.files_skipped_write(cursor, lease=self._lease, files=numbered, now=timezone.now(), parser=parser)
            done(cursor, numbered)
        self.tally.skipped += len(files)
        self.tally.files_done += len(files)
        self._pause()


def _batches(files: Sequence[TreeFile]) -> Iterator[list[TreeFile]]:
    """Neighbours together; a small one first, so that something is found soon."""
    batch: list[TreeFile] = []
    size = 0
    most = _FIRST_BATCH_FILES
    for file in files:
        if batch and (len(batch) >= most or size + file.size > _BATCH_BYTES):
            yield batch
            batch, size, most = [], 0, _BATCH_FILES
        batch.append(file)
        size += file.size
    if batch:
        yield batch
