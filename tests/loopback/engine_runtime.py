"""How the loopback engine runs a container: bubblewrap does what a runtime would, over this machine's own programs."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from apps.projects.sandbox.bubblewrap import bubblewrap_program
from apps.projects.sandbox.rootfs import Bind, Data, Entry, entry_arguments, program_path, system_entries
from apps.projects.sandbox.seccomp import seccomp_program

Send = Callable[[int, bytes], None]
_STDOUT, _STDERR = 1, 2


class MountRefused(Exception):
    """An engine's words for a mount that can't be."""


@dataclass
class Container:
    """One container: its description, and the process that carries it out once it is started."""

    name: str
    body: dict[str, Any]
    binds: list[Bind]
    container_id: str = field(default_factory=lambda: secrets.token_hex(32))
    process: subprocess.Popen[bytes] | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    _streams: list[tuple[Send, Callable[[], None]]] = field(default_factory=list)
    _input_ended: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @classmethod
    def make(
        cls, *, name: str, body: dict[str, Any], host_folders: dict[str, Path], volumes: dict[str, Path]
    ) -> Container:
        """Resolve what it mounts; MountRefused as an engine would."""
        binds = [_bind(mount, host_folders, volumes) for mount in body["HostConfig"]["Mounts"]]
        return cls(name, body, binds)

    @property
    def running(self) -> bool:
        return self.process is not None and not self.ended.is_set()

    def state(self) -> dict[str, Any]:
        status = "running" if self.running else ("exited" if self.ended.is_set() else "created")
        return {
            "Status": status,
            "Running": self.running,
            "OOMKilled": self.out_of_memory,
            "ExitCode": self.exit_code or 0,
            "Error": "",
        }

    def start(self) -> None:
        with self._lock:
            self.process, first = _spawn(self.body, self.binds)
            if self._input_ended:
                self._close_input()
        pumps = [
            threading.Thread(target=self._pump, args=(kind, pipe), daemon=True)
            for kind, pipe in ((_STDOUT, self.process.stdout), (_STDERR, self.process.stderr))
        ]
        for pump in pumps:
            pump.start()
        threading.Thread(target=self._reap, args=(pumps, first), daemon=True).start()

    def attach(self, send: Send, end: Callable[[], None]) -> None:
        self._streams.append((send, end))
        if self.ended.is_set():
            end()

    def feed(self, data: bytes) -> None:
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError, ValueError):
                self.process.stdin.write(data)
                self.process.stdin.flush()

    def feed_end(self) -> None:
        with self._lock:
            self._input_ended = True
            self._close_input()

    def wait(self) -> int:
        self.ended.wait()
        return self.exit_code if self.exit_code is not None else 137

    def kill(self) -> None:
        """What a runtime's cgroup or namespace does: all of it ends."""
        if self.process is None:
            self.ended.set()
            return
        for pid in reversed(_tree(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.ended.wait(10)

    def run_out_of_memory(self, marked: str) -> None:
        """Do as the kernel does at a container's limit: kill one process in it, and let the engine know."""
        assert self.process is not None
        self.out_of_memory = True
        for pid in _tree(self.process.pid):
            with suppress(OSError):
                if marked.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)

    def end_streams(self) -> None:
        for _, end in self._streams:
            end()

    def _close_input(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()

    def _pump(self, kind: int, pipe: Any) -> None:
        while data := pipe.read1(65536):
            for send, _ in self._streams:
                send(kind, data)

    def _reap(self, pumps: list[threading.Thread], first: int) -> None:
        assert self.process is not None
        status = self.process.wait()
        # A container is its process 1: what held it may have been killed alone.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(first, signal.SIGKILL)
        os.close(first)
        for pump in pumps:
            pump.join()
        self.exit_code = 128 - status if status < 0 else status
        self.ended.set()
        self.end_streams()


def image_path() -> str:
    """The PATH that the image is said to have."""
    return ":".join(folder for folder in program_path(environment=False).split(":") if "/run/archon" not in folder)


def _bind(mount: dict[str, Any], host_folders: dict[str, Path], volumes: dict[str, Path]) -> Bind:
    source = str(mount["Source"])
    if mount["Type"] == "volume":
        subpath = mount.get("VolumeOptions", {}).get("Subpath", "")
        if source not in volumes:
            raise MountRefused(f"volume {source} is not one that this engine was given")
        if PurePosixPath(subpath).is_absolute() or ".." in PurePosixPath(subpath).parts:
            raise MountRefused(f"invalid mount config: subpath {subpath} must be a relative path within the volume")
        path = volumes[source] / subpath
    else:
        path = Path(source)
        for prefix, folder in host_folders.items():
            if source == prefix or source.startswith(f"{prefix}/"):
                path = folder / source.removeprefix(prefix).lstrip("/")
                break
        else:
            if host_folders:
                path = Path("/nonexistent") / source.lstrip("/")
    if not path.exists():
        raise MountRefused(f'invalid mount config for type "bind": bind source path does not exist: {source}')
    return Bind(path, str(mount["Target"]), not mount["ReadOnly"])


def _spawn(body: dict[str, Any], binds: list[Bind]) -> tuple[subprocess.Popen[bytes], int]:
    """What carries it out, and process 1 in it."""
    host = body["HostConfig"]
    user, group = (int(part) for part in body["User"].split(":"))
    taken = {bind.target for bind in binds}
    # The image's own files, which what is mounted takes the place of.
    image: list[Entry] = [
        entry
        for entry in system_entries(hidden=[])
        if entry.target not in taken and not entry.target.startswith("/run/archon")
    ]
    descriptors: list[int] = []
    for entry in image:
        if isinstance(entry, Data):
            descriptors.append(_memory(entry.content))
    filters = _memory(seccomp_program())
    temporary = re.search(r"size=(\d+)m", host["Tmpfs"]["/tmp"])
    assert temporary is not None
    environment = dict(line.split("=", 1) for line in [f"PATH={image_path()}", *body["Env"]])
    command = [str(bubblewrap_program()), "--clearenv"]
    for name, value in environment.items():
        command += ["--setenv", name, value]
    command += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    # Not --die-with-parent: the parent would be the thread of one request. Losing its standard input ends it.
    reading, writing = os.pipe()
    command += ["--info-fd", str(writing)]
    command += ["--new-session", "--as-pid-1", "--hostname", body["Hostname"]]
    run = [*body["Entrypoint"], *body["Cmd"]]
    if os.geteuid() == 0:
        # As a runtime: the mounts as root, then the user, without capabilities from here on.
        command += ["--cap-drop", "ALL"]
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            command += ["--cap-add", capability]
        become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--inh-caps=-all"]
        run = [*become, "--bounding-set=-all", *run]
    else:
        command += ["--unshare-user", "--disable-userns", "--uid", str(user), "--gid", str(group), "--cap-drop", "ALL"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    command += ["--perms", "1777", "--size", str(host["ShmSize"]), "--tmpfs", "/dev/shm"]
    command += ["--perms", "1777", "--size", str(int(temporary[1]) << 20), "--tmpfs", "/tmp"]
    ordered = [*image, *sorted(binds, key=lambda bind: bind.target)]
    command += entry_arguments(ordered, data_descriptors=descriptors)
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", body["WorkingDir"]]
    command += ["--seccomp", str(filters), "--"]
    # The limit of processes is a user's rather than a control group's here.
    limited = ["prlimit", f"--nproc={host['PidsLimit']}", "--core=0", "--nofile=4096"]
    try:
        process = subprocess.Popen(
            [*command, *limited, *run],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
            pass_fds=[*descriptors, filters, writing],
            start_new_session=True,
        )
    finally:
        for descriptor in (*descriptors, filters, writing):
            os.close(descriptor)
    with os.fdopen(reading) as information:
        first = int(json.loads(information.read())["child-pid"])
    return process, os.pidfd_open(first)


def _memory(content: bytes) -> int:
    descriptor = os.memfd_create("engine")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _tree(root: int) -> list[int]:
    """A process and all that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found
