"""The one way to run git.

Repositories come from strangers and worktrees are written by agents, and git runs programs that its configuration and
attributes name. So git is only ever run with a git dir that the server owns, an empty environment and the flags
below: whatever a repository carries (hooks, filters, drivers, fsmonitor, embedded repositories) stays data.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Protocol

from apps.core.errors import DiskFull, Unavailable

#: What a call may print when it says nothing else.
DEFAULT_OUTPUT_BYTES = 64 * 1024 * 1024
_STDERR_BYTES = 64 * 1024
_TICK_SECONDS = 0.5
#: A date for commits that have to come out the same whenever they are made.
NO_DATE = "@0 +0000"
_NO_SPACE = ("No space left on device", "Disk quota exceeded")

#: Faults that old, honest histories carry, and that no check-out depends on.
_TOLERATED_FAULTS = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)
#: Paths that no check-out could hold: refused on arrival rather than when a session starts.
_REFUSED_FAULTS = ("emptyName", "fullPathname", "hasDot", "hasDotdot", "hasDotgit")
_SEVERITIES = (
    *(f"{fault}=ignore" for fault in _TOLERATED_FAULTS),
    *(f"{fault}=error" for fault in _REFUSED_FAULTS),
)
#: For ``index-pack --strict=``; fetches have the same from the flags below.
FSCK_SEVERITIES = ",".join(_SEVERITIES)

_FLAGS: tuple[str, ...] = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.pager=cat",
    "core.editor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.quotePath=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "safe.bareRepository=explicit",
    "safe.directory=*",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "receive.autogc=false",
    "advice.addEmbeddedRepo=false",
    "transfer.fsckObjects=true",
    "pack.threads=2",
    *(f"fetch.fsck.{severity}" for severity in _SEVERITIES),
)


class GitWatch(Protocol):
    """Somebody who looks on while git works. What either method raises stops git and is raised to the caller."""

    def tick(self) -> None:
        """Called about twice a second."""

    def progress(self, text: str) -> None:
        """What git says on standard error, in pieces as they come."""


class GitError(Exception):
    """A git command failed, took too long or printed too much; ``stderr`` is what it said."""

    def __init__(self, command: Sequence[str], returncode: int | None, stderr: str, *, stdout: str = "") -> None:
        self.command = tuple(command)
        self.returncode = returncode
        self.stderr = stderr.strip()
        #: Of one that ended by itself; a push tells there what became of each branch.
        self.stdout = stdout
        what = "was stopped" if returncode is None else f"failed ({returncode})"
        super().__init__(f"git {command[0] if command else ''} {what}: {self.stderr[-2000:]}")


@contextlib.contextmanager
def full_disk_told(what: str) -> Iterator[None]:
    """Turn the system's word on a full disk into DiskFull; ``what`` says what could not be done."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(what) from error
        raise


@dataclass(frozen=True)
class GitResult:
    returncode: int
    stdout: bytes
    stderr: str
    #: ``stdout`` was cut at the limit and git stopped there; only when the call allowed it.
    truncated: bool = False

    @property
    def text(self) -> str:
        """Standard output as text, without the line end."""
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


@lru_cache(maxsize=1)
def git_binary() -> str:
    """The path of git; without one nothing works: Unavailable."""
    found = shutil.which("git")
    if found is None:
        raise Unavailable("git is not installed", next_step="Install git 2.38 or later and start Archon again.")
    return found


def upload_pack_command() -> str:
    """What a fetch from a folder runs on the far side, as ``--upload-pack`` takes it.

    git documents upload-pack as safe on repositories that aren't trusted: it runs no hook, and takes
    ``uploadpack.packObjectsHook`` from protected configuration alone, of which there is none here. Its flags are
    spelt out since those of the fetching process don't reach it; folders of any owner are served.
    """
    flags = (
        "safe.directory=*",
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "uploadpack.allowAnySHA1InWant=true",
    )
    return shlex.join([git_binary(), *(part for flag in flags for part in ("-c", flag)), "upload-pack"])


def git_identity(*, name: str = "Archon", address: str = "archon@localhost", date: str = "") -> dict[str, str]:
    """The variables by which git takes who makes a commit, and when; without a date, now."""
    parts = (("NAME", name), ("EMAIL", address), *([("DATE", date)] if date else []))
    return {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in parts}


def git_run(
    *arguments: str,
    git_dir: Path | None = None,
    work_tree: Path | None = None,
    index: Path | None = None,
    environment: Mapping[str, str] | None = None,
    configuration: Sequence[str] = (),
    stdin: bytes | IO[bytes] | None = None,
    timeout: float = 60,
    max_output: int = DEFAULT_OUTPUT_BYTES,
    cut_output: bool = False,
    protocol: str = "",
    accepted: Sequence[int] = (0,),
    watch: GitWatch | None = None,
) -> GitResult:
    """Run git and wait for it. ``protocol`` is the one over which it may reach a repository; empty: none.

    An exit code outside ``accepted``, more than ``timeout`` seconds, or more than ``max_output`` bytes (unless
    ``cut_output``: then what came so far is returned and marked) raise GitError; a full disk raises DiskFull.
    """
    command = [git_binary()]
    for flag in (*_FLAGS, *configuration):
        command += ["-c", flag]
    process_environment = {
        "PATH": f"{Path(git_binary()).parent}:{os.defpath}",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "false",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "0",
        # A protocol that there isn't: an empty list would be no list.
        "GIT_ALLOW_PROTOCOL": protocol or "none",
    }
    if git_dir is not None:
        process_environment["GIT_DIR"] = str(git_dir)
    if work_tree is not None:
        process_environment["GIT_WORK_TREE"] = str(work_tree)
    if index is not None:
        process_environment["GIT_INDEX_FILE"] = str(index)
    process_environment.update(environment or {})
    if isinstance(stdin, bytes):
        with full_disk_told("git could not be given its input"), tempfile.TemporaryFile() as spooled:
            spooled.write(stdin)
            spooled.seek(0)
            result = _communicate(
                [*command, *arguments], arguments, process_environment, work_tree, spooled, timeout, max_output, watch
            )
    else:
        result = _communicate(
            [*command, *arguments], arguments, process_environment, work_tree, stdin, timeout, max_output, watch
        )
    if any(phrase in result.stderr for phrase in _NO_SPACE):
        raise DiskFull("git could not write")
    if result.truncated:
        if cut_output:
            return result
        raise GitError(arguments, None, f"more than {max_output} bytes of output")
    if result.returncode not in accepted:
        # Some of git's messages leave out why something could not be written.
        if "unable to write" in result.stderr and any(_is_full(place) for place in (git_dir, work_tree) if place):
            raise DiskFull("git could not write")
        raise GitError(
            arguments, result.returncode, result.stderr, stdout=result.stdout[:_STDERR_BYTES].decode("utf-8", "replace")
        )
    return result


def _communicate(
    command: list[str],
    arguments: Sequence[str],
    environment: dict[str, str],
    directory: Path | None,
    stdin: IO[bytes] | None,
    timeout: float,
    max_output: int,
    watch: GitWatch | None,
) -> GitResult:
    deadline = time.monotonic() + timeout
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=directory or "/",
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    stdout, stderr = bytearray(), bytearray()
    truncated = False
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, stdout)
            selector.register(process.stderr, selectors.EVENT_READ, stderr)
            while selector.get_map() and not truncated:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise GitError(arguments, None, f"no answer within {timeout:.0f} s")
                if watch is not None:
                    watch.tick()
                    remaining = min(remaining, _TICK_SECONDS)
                for key, _ in selector.select(remaining):
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.data is stdout:
                        stdout += chunk
                        truncated = len(stdout) > max_output
                    else:
                        stderr += chunk
                        # Why it failed is said last, after any amount of progress.
                        del stderr[:-_STDERR_BYTES]
                        if watch is not None:
                            watch.progress(chunk.decode("utf-8", "replace"))
        if truncated:
            del stdout[max_output:]
            return GitResult(0, bytes(stdout), _decode(stderr), truncated=True)
        try:
            returncode = process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise GitError(arguments, None, f"no end within {timeout:.0f} s") from None
        return GitResult(returncode, bytes(stdout), _decode(stderr))
    finally:
        if process.poll() is None:
            # The whole group: git starts children (index-pack, upload-pack) of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()


def _decode(raw: bytearray) -> str:
    return raw.decode("utf-8", "replace")


def _is_full(place: Path) -> bool:
    state = os.statvfs(place)
    return state.f_bavail * state.f_frsize < 1 << 20 or (state.f_files > 0 and state.f_favail == 0)


def path_decode(raw: bytes) -> str:
    """A path as git printed it (with ``-z``); bytes that are not UTF-8 become surrogates, as in ``os.fsdecode``."""
    return raw.decode("utf-8", "surrogateescape")


def path_display(path: str) -> str:
    """A path that can be stored and sent: what is not UTF-8 in it is replaced."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
