"""The processes that parse (``parsing_process``), shared by all jobs of this process.

So many at a time, however many projects are being read; idle ones end after a while. One that dies, or is silent for
too long, is replaced; its files are tried one at a time then, and the one that it died of is read by its lines.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.context.parsing_process import _COUNT, _SIZE, file_row

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parent.parent.parent
#: For one file, and besides for each MiB asked for.
_SECONDS = 30.0
_SECONDS_PER_MIB = 10.0
_IDLE_SECONDS = 60.0
#: Of one file by itself, before it is read by its lines.
_TRIES = 3
_READ_BYTES = 1 << 20


class ParserDied(Exception):
    """The process ended, or was ended for being silent; the message says which."""

    def __init__(self, message: str, *, was_slow: bool = False) -> None:
        super().__init__(message)
        self.was_slow = was_slow


@dataclass(frozen=True)
class ParseFile:
    """A file to be parsed, with the id that its row will have."""

    id: int
    path: str
    blob: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class ParsedBatch:
    """Rows of some files in COPY's binary form, and their postings by term."""

    files: bytes
    chunks: bytes
    symbols: bytes
    terms: tuple[str, ...]
    #: Records of each term, one after the other.
    term_counts: bytes
    records: bytes
    #: Of each file, in order: ``{state, lines, chunks, symbols}``.
    facts: tuple[dict[str, Any], ...]
    chunk_count: int
    total_length: int


class _Parser:
    """One process."""

    def __init__(self) -> None:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(_ROOT),
            "PYTHONDONTWRITEBYTECODE": "1" if sys.dont_write_bytecode else "",
            "OPENBLAS_NUM_THREADS": "1",
            "LC_ALL": "C.UTF-8",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "apps.context.parsing_process"],
            env=environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._answers.fileno(), False)
        os.set_blocking(self._requests.fileno(), False)
        self.idle_since = time.monotonic()

    def ask(self, parts: Sequence[bytes], *, seconds: float) -> list[bytes]:
        """The answer to one frame. ParserDied when there is none within so many seconds."""
        deadline = time.monotonic() + seconds
        outgoing = memoryview(b"".join([_COUNT.pack(len(parts)), *(_SIZE.pack(len(part)) for part in parts), *parts]))
        incoming = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            selector.register(self._requests, selectors.EVENT_WRITE)
            while (answer := _frame_parse(incoming)) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    self.kill()
                    raise ParserDied("the parser took too long", was_slow=True)
                for key, _ in selector.select(left):
                    try:
                        if key.fileobj is self._requests:
                            sent = os.write(self._requests.fileno(), outgoing[:_READ_BYTES])
                            outgoing = outgoing[sent:]
                            if not outgoing:
                                selector.unregister(self._requests)
                        elif piece := os.read(self._answers.fileno(), _READ_BYTES):
                            incoming += piece
                        else:
                            raise BrokenPipeError
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:
                        self.kill()
                        raise ParserDied(f"the parser died ({self._process.returncode})") from None
        return answer

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                stream.close()


def _frame_parse(data: bytearray) -> list[bytes] | None:
    if len(data) < _COUNT.size:
        return None
    (number,) = _COUNT.unpack_from(data)
    head = _COUNT.size + number * _SIZE.size
    if len(data) < head:
        return None
    sizes = [_SIZE.unpack_from(data, _COUNT.size + position * _SIZE.size)[0] for position in range(number)]
    if len(data) < head + sum(sizes):
        return None
    parts, position = [], head
    for size in sizes:
        parts.append(bytes(data[position : position + size]))
        position += size
    return parts


class ParserPool:
    """At most so many parsers at work at a time."""

    def __init__(self, *, processes: int) -> None:
        self.processes = processes
        self._slots = threading.BoundedSemaphore(processes)
        self._idle: list[_Parser] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="parsing")
        self._closed = False
        self._reaper: threading.Timer | None = None

    def submit(self, *, index_id: int, files: Sequence[ParseFile], first_chunk: int) -> Future[list[ParsedBatch]]:
        """Have them parsed; several batches only where a parser died of one of them.

        ``first_chunk`` is the first of as many ids as the files have lines and files together.
        """
        return self._threads.submit(self._parse, index_id, files, first_chunk)

    def close(self) -> None:
        """End all processes; those at work end with what they are at."""
        self._closed = True
        with self._lock:
            idle, self._idle = self._idle, []
        for parser in idle:
            parser.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _parse(self, index_id: int, files: Sequence[ParseFile], first_chunk: int) -> list[ParsedBatch]:
        try:
            return [self._ask(index_id, files, first_chunk)]
        except ParserDied as error:
            if len(files) == 1:
                return [self._ask_again(index_id, files[0], first_chunk, error)]
        found = []
        for file in files:
            found += self._parse(index_id, [file], first_chunk)
            first_chunk += chunk_ids_needed([file])
        return found

    def _ask_again(self, index_id: int, file: ParseFile, first_chunk: int, error: ParserDied) -> ParsedBatch:
        """Again, by new processes: those that died may have been killed for no fault of the file."""
        for _ in range(_TRIES):
            if error.was_slow:
                break
            try:
                return self._ask(index_id, [file], first_chunk)
            except ParserDied as again:
                error = again
        return self._ask_by_lines(index_id, file, first_chunk, str(error))

    def _ask_by_lines(self, index_id: int, file: ParseFile, first_chunk: int, why: str) -> ParsedBatch:
        """The file that a grammar died of, without it; its words are found all the same."""
        logger.warning("a file is read by its lines: %s", why)
        try:
            return self._ask(index_id, [file], first_chunk, by_lines=f"{why}: read by lines")
        except ParserDied as error:
            logger.warning("a file could not be read: %s", error)
            return _failed(index_id, file, str(error))

    def _ask(self, index_id: int, files: Sequence[ParseFile], first_chunk: int, *, by_lines: str = "") -> ParsedBatch:
        asked = {
            "index": index_id,
            "by_lines": by_lines,
            "first_chunk": first_chunk,
            "files": [{"id": file.id, "path": file.path, "blob": file.blob} for file in files],
        }
        size = sum(len(file.content) for file in files)
        with self._parser() as parser:
            answer = parser.ask(
                [json.dumps(asked).encode(), *(file.content for file in files)],
                seconds=_SECONDS + _SECONDS_PER_MIB * size / 2**20,
            )
        told = json.loads(answer[0])
        names = answer[4].decode("utf-8", "replace")
        return ParsedBatch(
            files=answer[1],
            chunks=answer[2],
            symbols=answer[3],
            terms=tuple(names.split("\n")) if names else (),
            term_counts=answer[5],
            records=answer[6],
            facts=tuple(told["files"]),
            chunk_count=told["chunks"],
            total_length=told["length"],
        )

    @contextlib.contextmanager
    def _parser(self) -> Iterator[_Parser]:
        with self._slots:
            parser = self._idle_take() or _Parser()
            try:
                yield parser
            except BaseException:
                parser.kill()
                raise
            parser.idle_since = time.monotonic()
            with self._lock:
                if not self._closed:
                    self._idle.append(parser)
                    self._reap_later()
                    return
            parser.kill()

    def _idle_take(self) -> _Parser | None:
        """One that waits for work, and lives."""
        while True:
            with self._lock:
                parser = self._idle.pop() if self._idle else None
            if parser is None or parser.is_alive():
                return parser
            parser.kill()

    def _reap_later(self) -> None:
        if self._reaper is None or not self._reaper.is_alive():
            self._reaper = threading.Timer(_IDLE_SECONDS, self._reap)
            self._reaper.daemon = True
            self._reaper.start()

    def _reap(self) -> None:
        now = time.monotonic()
        with self._lock:
            old = [parser for parser in self._idle if now - parser.idle_since >= _IDLE_SECONDS - 1]
            self._idle = [parser for parser in self._idle if parser not in old]
            self._reaper = None
            if self._idle:
                self._reap_later()
        for parser in old:
            parser.kill()


def chunk_ids_needed(files: Sequence[ParseFile]) -> int:
    """More ids than the files can have chunks: one a line at the most, and one for what is long."""
    return sum(file.content.count(b"\n") + file.content.count(b"\r") + len(file.content) // 1000 + 2 for file in files)


def _failed(index_id: int, file: ParseFile, why: str) -> ParsedBatch:
    raw = file_row(
        file_id=file.id,
        index_id=index_id,
        path=file.path,
        blob=file.blob,
        state="failed",
        reason=why,
        size=len(file.content),
        now=datetime.now(UTC),
    )
    facts = ({"state": "failed", "lines": 0, "chunks": 0, "symbols": 0},)
    return ParsedBatch(raw, b"", b"", (), b"", b"", facts, 0, 0)


_pool: ParserPool | None = None
_pool_lock = threading.Lock()


def parser_pool() -> ParserPool:
    """The pool of this process."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ParserPool(processes=settings.ARCHON_INDEX_PROCESSES)
        return _pool


def parser_pool_close() -> None:
    """End this process's parsers."""
    global _pool
    with _pool_lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()
