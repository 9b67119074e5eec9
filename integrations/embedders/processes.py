"""Processes that embed, beside the one that asks: a model's memory and time are theirs, and end with them.

A process is started when there is something to do, ended when there was nothing for a while, and ends by itself when
its parent is gone, since its input ends then.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .errors import EmbedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Texts in one request: a second of work, so that nobody waits long behind another.
REQUEST_TEXTS = 16
#: A process that is silent for longer has come to a stop: on a busy machine one request takes seconds.
SILENCE_SECONDS = 300.0
START_SECONDS = 120.0
#: So long a text waits for a process that is free.
PATIENCE_SECONDS = 120.0
_TOLD = 1_000


class _Ended(Exception):
    """The process is gone, or had to be ended."""


class ProcessPool:
    """Up to ``size`` processes of one program. Any thread may use it; it belongs to the process that made it."""

    def __init__(
        self,
        *,
        program: Path,
        arguments: Sequence[str],
        dimension: int,
        max_characters: int,
        size: int,
        idle_s: float,
        niceness: int = 0,
    ) -> None:
        self._command = (sys.executable, "-I", str(program), *arguments, str(niceness))
        self._dimension = dimension
        self._max_characters = max_characters
        self._size = size
        self._idle_s = idle_s
        self._free: list[_Process] = []
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="embed")
        self._reaper: threading.Thread | None = None
        atexit.register(self.close)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text. Raises :class:`EmbedError`."""
        import numpy as np

        parts = [texts[start : start + REQUEST_TEXTS] for start in range(0, len(texts), REQUEST_TEXTS)]
        if len(parts) == 1:
            return self._ask(parts[0])
        found: list[NDArray[np.float32]] = []
        waiting: list[Future[NDArray[np.float32]]] = []
        try:
            for part in parts:
                if len(waiting) == self._size:
                    found.append(waiting.pop(0).result())
                waiting.append(self._threads.submit(self._ask, part))
            found += [future.result() for future in waiting]
        finally:
            for future in waiting:
                future.cancel()
        return np.concatenate(found) if found else np.empty((0, self._dimension), np.float32)

    def pids(self) -> list[int]:
        """Those that are free."""
        with self._changed:
            return [process.pid for process in self._free]

    def close(self) -> None:
        """End the processes; what they are at comes to nothing."""
        atexit.unregister(self.close)
        with self._changed:
            self._closed = True
            free, self._free = self._free, []
            self._count -= len(free)
            self._changed.notify_all()
        for process in free:
            process.end()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Tried twice: a process may have been killed while it was free, or for what it was at."""
        try:
            return self._ask_once(texts)
        except _Ended:
            pass
        try:
            return self._ask_once(texts)
        except _Ended as error:
            raise EmbedError(
                f"the process that embeds ended: {error}",
                kind="crashed",
                next_step="See whether the machine is out of memory: each process takes about 300 MB.",
                retryable=True,
            ) from error

    def _ask_once(self, texts: Sequence[str]) -> NDArray[np.float32]:
        process = self._take()
        try:
            vectors = process.ask([_readable(text[: self._max_characters]) for text in texts], self._dimension)
        except BaseException:
            # Whatever it would still answer is not for the next one.
            process.end()
            self._gone()
            raise
        self._give_back(process)
        return vectors

    def _take(self) -> _Process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while True:
                if self._closed:
                    raise EmbedError("the server is stopping", kind="down", retryable=True)
                if time.monotonic() > deadline:
                    raise EmbedError(
                        f"no process that embeds was free within {PATIENCE_SECONDS:.0f} s",
                        kind="down",
                        next_step="Try again later; ARCHON_EMBED_PROCESSES says how many there are.",
                        retryable=True,
                    )
                while self._free:
                    process = self._free.pop()
                    if process.is_alive():
                        return process
                    # Killed while it had nothing to do: another one takes its place.
                    process.end()
                    self._count -= 1
                if self._count < self._size:
                    self._count += 1
                    break
                self._changed.wait(timeout=1.0)
        try:
            return _Process(self._command)
        except OSError as error:
            self._gone()
            raise EmbedError(
                f"no process that embeds could be started: {error}",
                kind="crashed",
                next_step="See whether the machine is out of memory, processes or open files.",
                retryable=True,
            ) from error
        except BaseException:
            self._gone()
            raise

    def _give_back(self, process: _Process) -> None:
        process.free_since = time.monotonic()
        with self._changed:
            if not self._closed:
                self._free.append(process)
                self._changed.notify()
                if self._reaper is None:
                    self._reaper = threading.Thread(target=self._reap, name="embed-idle", daemon=True)
                    self._reaper.start()
                return
            self._count -= 1
        process.end()

    def _gone(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def _reap(self) -> None:
        """End processes that had nothing to do for a while; ends itself with the last of them."""
        while True:
            with self._changed:
                if self._closed or self._count == 0:
                    self._reaper = None
                    return
                self._changed.wait(timeout=max(0.05, self._idle_s / 4))
                now = time.monotonic()
                idle = [process for process in self._free if now - process.free_since >= self._idle_s]
                self._free = [process for process in self._free if process not in idle]
                self._count -= len(idle)
            for process in idle:
                process.end()


class _Process:
    """One of them; used by one thread at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self.free_since = time.monotonic()
        # A file and not a pipe: nobody has to read it for the process to go on.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            cwd="/",
        )
        try:
            kind, body = self._read(START_SECONDS)
        except BaseException:
            self.end()
            raise
        if kind != b"R":
            self.end()
            raise EmbedError(
                f"the model cannot be loaded: {body.decode(errors='replace')[:_TOLD]}",
                kind="crashed",
                next_step="Install the packages of requirements.txt anew.",
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, texts: Sequence[str], dimension: int) -> NDArray[np.float32]:
        import numpy as np

        body = json.dumps(texts).encode()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack("<I", len(body)) + body)
            self._process.stdin.flush()
        except OSError as error:
            raise _Ended(self._why()) from error
        kind, answer = self._read(SILENCE_SECONDS)
        if kind == b"E":
            raise EmbedError(
                f"the model failed: {answer.decode(errors='replace')[:_TOLD]}", kind="bad_response", next_step=""
            )
        vectors = np.frombuffer(answer, np.float32)
        if vectors.size != len(texts) * dimension:
            raise _Ended("it answered something else than vectors")
        return vectors.reshape(len(texts), dimension)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was still to be written has nobody to read it
                    pass

    def _read(self, patience_s: float) -> tuple[bytes, bytes]:
        deadline = time.monotonic() + patience_s
        head = self._read_exactly(5, deadline)
        return head[:1], self._read_exactly(struct.unpack("<I", head[1:])[0], deadline)

    def _read_exactly(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        # Not select: that knows no descriptor from 1,024 on, and a server has a socket for everyone who watches.
        answers = select.poll()
        answers.register(descriptor, select.POLLIN)
        parts = bytearray()
        while len(parts) < size:
            if not answers.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _Ended("it did not answer in time")
            part = os.read(descriptor, size - len(parts))
            if not part:
                raise _Ended(self._why())
            parts += part
        return bytes(parts)

    def _why(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it does not listen any more"
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _TOLD))
        said = self._errors.read().decode(errors="replace").strip()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}: {said}" if said else how


def _readable(text: str) -> str:
    """Halves of characters that no encoding has become question marks."""
    return text.encode(errors="replace").decode()


def _environment() -> dict[str, str]:
    """Nothing of the server's goes along: no key, no password."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {"PATH": os.environ.get("PATH", ""), "TOKENIZERS_PARALLELISM": "false", **threads}
