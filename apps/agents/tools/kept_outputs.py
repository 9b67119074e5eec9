"""Outputs that were too long to be shown: files of the session, which its agents page through.

They lie beside the session's worktree, where only the server looks, are found again by another worker, and go with the
session's files. What is kept is bounded: of one output its beginning and its end, of all of them the newest.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from apps.projects.sandbox.kept_output import KeptOutput
from apps.projects.workspace import OutputPage

#: Bytes that are kept of one output.
ONE_LIMIT = 1_000_000
_NAME = re.compile(r"c[0-9]{1,9}(?:-[0-9]{1,9})?")
_GAP = b"\n[... %d bytes are not kept ...]\n"


class KeptOutputs:
    """The outputs of one execution, by the ids of its calls; at most ``limit`` bytes of all executions together."""

    def __init__(self, *, folder: Path, execution: str, limit: int) -> None:
        self._root = folder
        self._folder = folder / execution
        self._limit = limit

    def keep(self, output_id: str, text: str) -> bool:
        """Keep an output; whether that could be done. The same id again takes its place. Call it in a thread."""
        if _NAME.fullmatch(output_id) is None:
            raise ValueError(f"no id of an output: {output_id!r}")
        data = _bounded(text.encode(errors="replace"))
        if len(data) > self._limit:
            return False
        temporary = ""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, self._folder / output_id)
        except OSError:
            # A full disk costs the agent the rest of an output, not the call that it has made.
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            return False
        self._oldest_delete(self._folder / output_id)
        return True

    def page(self, output_id: str, *, offset: int, limit: int) -> OutputPage | None:
        """A piece of it, or None when nothing is kept of that id. Call it in a thread."""
        if _NAME.fullmatch(output_id) is None:
            return None
        try:
            data = (self._folder / output_id).read_bytes()
        except FileNotFoundError:
            return None
        kept = KeptOutput(limit=4 * (len(data) + 1))
        kept.add(data)
        return kept.page(offset=offset, limit=limit)

    def _oldest_delete(self, newest: Path) -> None:
        found: list[tuple[int, int, Path]] = []
        for path in self._root.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                found.append((state.st_mtime_ns, state.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


def _bounded(data: bytes) -> bytes:
    if len(data) <= ONE_LIMIT:
        return data
    head, tail = ONE_LIMIT // 4, ONE_LIMIT - ONE_LIMIT // 4
    return data[:head] + _GAP % (len(data) - head - tail) + data[-tail:]
