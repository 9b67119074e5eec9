"""Children that cannot outlive their parent, and finding the ones that did."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT_BYTES = 10 * 1024 * 1024


def spawn(
    arguments: Sequence[str | Path],
    *,
    log: Path,
    death_signal: int,
    cwd: Path | str = "/",
    environment: Mapping[str, str] | None = None,
    account: tuple[int, int] | None = None,
    stdin: bytes | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own that gets ``death_signal`` when this thread's process dies.

    Call it from the main thread: the kernel watches the thread that forked. Output goes to the end of ``log``.
    """
    with log_open(log) as output:
        child = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(environment) if environment is not None else None,
            start_new_session=True,
            user=account[0] if account else None,
            group=account[1] if account else None,
            extra_groups=[] if account else None,
            pass_fds=pass_fds,
            preexec_fn=_before_exec(death_signal),
        )
    if child.stdin is not None and stdin is not None:
        child.stdin.write(stdin)
        child.stdin.close()
    return child


def _before_exec(death_signal: int) -> Callable[[], None]:
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        # After the change of user, which clears the setting. The signal mask of a parent that waits with sigtimedwait
        # would be inherited.
        libc.prctl(_PR_SET_PDEATHSIG, death_signal)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def daemon_spawn(module: str, *arguments: str, cwd: Path, log: Path, environment: Mapping[str, str]) -> None:
    """Run a module of ours on its own: it outlives us and, having called :func:`detach`, is nobody's child."""
    with log_open(log) as output:
        subprocess.run(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(environment),
            start_new_session=True,
            check=False,
        )


def detach() -> None:
    """Go on in a process of its own, while the one that was started ends at once."""
    sys.stdout.flush()
    if os.fork():
        os._exit(0)


def log_open(path: Path) -> IO[bytes]:
    """The log, at its end; a long one is put aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
        path.replace(path.with_suffix(".1.log"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def log_tail(path: Path, *, lines: int = 8) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def free_port(preferred: int | None = None) -> int:
    """A loopback port that nobody uses now; the preferred one if it is free."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free loopback port")


def processes_of(executable: str, *, folder: Path) -> list[int]:
    """The running processes of this executable that work in ``folder``: a server's data tells whose server it is."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                works_in = os.readlink(f"{entry.path}/cwd")
                runs = os.path.basename(os.readlink(f"{entry.path}/exe")).removesuffix(" (deleted)")
            except OSError:  # gone, a zombie, or somebody else's
                continue
            if works_in == str(folder) and runs == executable:
                found.append(int(entry.name))
    return found


def processes_stop(executable: str, *, folder: Path, signals: Sequence[tuple[int, float]]) -> None:
    """Send each signal in turn, with seconds to wait after it, until no such process works in ``folder``."""
    for number, seconds in signals:
        for pid in processes_of(executable, folder=folder):
            try:
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)  # one that is suspended would never see the first
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + seconds
        while processes_of(executable, folder=folder):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return
