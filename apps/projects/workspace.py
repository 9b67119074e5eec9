"""Where an agent's files are and its commands run: the promise, whatever keeps it.

An adapter (bubblewrap here, a container elsewhere) gives one worktree a place in which commands see that worktree and
nothing else. Paths are relative to the worktree, with forward slashes; one that leaves it, through ``..``, a link or a
race, is refused. Paths come from a model: every refusal is a :class:`WorkspaceError` whose message the model is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from apps.core.errors import Unavailable

#: Where a worktree stands inside every sandbox, so that what a set-up wrote into the environment stays true.
SANDBOX_WORKSPACE = "/workspace"
#: Where a project's environment stands inside every sandbox.
SANDBOX_ENVIRONMENT = "/env"
#: Where what a person attached to a goal stands in an agent's sandbox, read-only, outside of the worktree.
SANDBOX_ATTACHMENTS = "/attachments"


class WorkspaceError(Exception):
    """A file or command operation that was refused or failed; the message says which and why."""


class SandboxUnavailable(Unavailable):
    """No sandbox can be started here, and nothing is ever run without one."""

    code = "sandbox_unavailable"


@dataclass(frozen=True)
class FileEntry:
    path: str
    kind: Literal["file", "directory", "link", "other"]
    size: int
    #: When it was last changed, in seconds since 1970.
    modified: float = 0.0


@dataclass(frozen=True)
class FileListing:
    entries: tuple[FileEntry, ...]
    #: More entries were there than the limit allowed.
    truncated: bool


@dataclass(frozen=True)
class CommandResult:
    """What came of a command: ``exit_code`` is None when it was killed (timed out, over a limit, cancelled)."""

    exit_code: int | None
    #: Standard output and error as they came, decoded with replacement, cut in the middle when too long.
    output: str
    truncated: bool
    seconds: float
    #: Why it was killed: empty, `timeout`, `memory`, `disk`, `output` (far more of it than is kept), or `sandbox` (the
    #: sandbox itself ended, for a reason of the host's; the next command gets a new one).
    killed: str = ""


@dataclass(frozen=True)
class BackgroundState:
    """A command that runs beside others, or did; ``exit_code`` is None while it runs and when it was killed."""

    name: str
    running: bool
    exit_code: int | None
    #: As of a CommandResult, or `stopped` (somebody asked for it), or `cleanup` (what another command left behind could
    #: not be ended without it).
    killed: str
    seconds: float
    #: Bytes that it has printed so far, kept or not.
    output_bytes: int


@dataclass(frozen=True)
class OutputPage:
    """A piece of a command's output. Offsets count the bytes that it has printed."""

    text: str
    #: Where the text begins: later than was asked for where output is not kept any more.
    offset: int
    #: Where to go on reading.
    next_offset: int
    #: Bytes printed so far.
    total: int


@dataclass(frozen=True)
class SandboxLimits:
    memory_mb: int
    disk_mb: int
    processes: int


class Workspace(Protocol):
    """One worktree, held open: its files, and commands in its sandbox. Made by ``sandbox.workspace_open``."""

    async def file_list(self, path: str = ".", *, depth: int = 1, limit: int = 500) -> FileListing:
        """Entries below a folder, sorted by path; ``.git`` and what git ignores are left out."""

    async def file_read(self, path: str, *, max_bytes: int = 1_000_000) -> bytes:
        """The whole file; larger than ``max_bytes``, missing, or no regular file: WorkspaceError."""

    async def file_write(self, path: str, content: bytes) -> None:
        """Replace the file atomically, keeping its mode; folders are made as needed."""

    async def file_find(
        self, pattern: str, *, path: str = ".", newest_first: bool = False, limit: int = 200
    ) -> FileListing:
        """Files below a folder whose path (or name, for a pattern without a slash) matches; as ``file_list`` else."""

    async def file_entry(self, path: str) -> FileEntry:
        """What is at the path itself, a link as a link; nothing there: WorkspaceError."""

    async def file_move(self, source: str, target: str) -> None:
        """Move a file, link or folder to where nothing is yet; folders are made as needed."""

    async def file_delete(self, path: str, *, folder: bool = False) -> None:
        """Delete a file or link; with ``folder`` a folder and all in it."""

    async def command_run(
        self,
        command: Sequence[str] | str,
        *,
        timeout: float,
        max_output: int = 100_000,
        on_output: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run an argument vector, or a string by ``bash -c``, in the worktree; what it leaves running is killed.

        Cancelling the awaiting task kills the command's whole process tree before CancelledError goes on.
        """

    async def background_start(
        self, command: Sequence[str] | str, *, name: str, timeout: float | None = None
    ) -> BackgroundState:
        """Start a command that runs beside others until it ends, is stopped, or the workspace is closed.

        ``name`` is new in this workspace. Too many at a time: WorkspaceError.
        """

    async def background_wait(self, name: str, *, seconds: float) -> BackgroundState:
        """How it stands once it has ended, or after so many seconds; none of that name: WorkspaceError."""

    async def background_output(self, name: str, *, offset: int = 0, limit: int = 20_000) -> OutputPage:
        """What it printed from an offset on; a negative one counts from the end."""

    async def background_stop(self, name: str) -> BackgroundState:
        """Kill it and all that it started; one that has ended stays as it is."""

    async def background_stop_all(self) -> tuple[str, ...]:
        """Stop all of them and forget them and their output; the names of those that ran."""

    def quiet(self) -> AbstractAsyncContextManager[None]:
        """While it is held nothing runs in the sandbox: no command starts, those in the background stand still."""

    async def close(self) -> None:
        """End the sandbox and everything in it."""


@dataclass(frozen=True)
class Worktree:
    """A session's checkout on disk. ``path`` belongs to the sandbox's user; ``git_dir`` and ``index`` to the server."""

    path: Path
    git_dir: Path
    index: Path
    branch: str
    base_commit: str
