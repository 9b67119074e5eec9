"""What runs as process 1 inside a sandbox: starts commands, watches them, and leaves nothing behind.

The standard library only, one file, started with ``python -I -S``: nothing of the server is in the sandbox beside it.
Being process 1 of its own pid namespace, it can't be signalled from within, every orphan becomes its child, and
``kill(-1)`` followed by ``waitpid`` until there is no child left proves that nothing survived a call, however often it
forked and whatever it ignores. It is undumpable, so that nothing in the sandbox reads or writes its memory or its
descriptors, and no command inherits the channel that it speaks over.

The channel carries frames: length of the body (4 bytes, big-endian), kind (1 byte), body. Kind 0 is a JSON object;
only from here to the host come kind 1, output of the running command, and kind 2, output of one in the background: its
id (4 bytes, big-endian), then the output.

From the host: ``{"op": "run", "id", "argv", "env", "cwd", "timeout", "background"}``, ``{"op": "cancel", "id"}``,
``{"op": "hold"}``, ``{"op": "release"}``, ``{"op": "ping"}``; to it: ``{"event": "ready"}``, ``{"event": "pong"}``,
``{"event": "held"}``, ``{"event": "released"}`` and ``{"event": "done", "id", "exit", "killed", "seconds"}``.
``exit`` is 128 + N for a command that died of signal N, and None when this server killed it.

One command runs at a time, and others in the background beside it. Each of those has a keeper: a process of this file
that what they orphan falls to, so that it can be told from what the one command leaves behind, which is killed. Who
kills a keeper gains nothing: what falls to this process instead is killed, too.

The imports are light ones (no pathlib, no dataclasses): every sandbox boots with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import time
from typing import Any, NamedTuple, NoReturn

JSON, OUTPUT, BACKGROUND = 0, 1, 2
HEADER = struct.Struct("!IB")
NUMBER = struct.Struct("!I")
CHUNK = 65536
PAGE = resource.getpagesize()
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
#: Seconds in which what a command left behind has to be gone while others run in the background; then these go too.
CLEAR = 2.0
#: Seconds between looks at memory and disk; only while a command runs.
WATCH = 0.05


class Config(NamedTuple):
    """What the host wants of this sandbox; bytes and counts."""

    #: The inherited descriptor of the channel; 0: standard input and output, as a container's process 1 has them.
    channel: int
    memory: int
    disk: int
    processes: int
    #: Output of one command beyond which it is killed.
    output: int
    #: Folders whose size counts towards ``disk``.
    watched: list[str]
    #: Exit with the first command's exit code, so that the host learns it from the kernel as well.
    once: bool
    #: A unix socket to which 127.0.0.1:``proxy_port`` is forwarded; empty: none.
    proxy_socket: str
    proxy_port: int


class Channel:
    """The way to the host, which no command inherits: a socket, or what came as standard input and output."""

    def __init__(self, descriptor: int) -> None:
        self.reading = self.writing = descriptor
        if descriptor == 0:
            self.reading, self.writing = os.dup(0), os.dup(1)
            # What is started here starts with these, and would hold the channel's ends in its hands.
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nowhere, 0)
            os.dup2(nowhere, 1)
            os.close(nowhere)
        for end in (self.reading, self.writing):
            os.set_inheritable(end, False)

    def fileno(self) -> int:
        return self.reading

    def recv(self, size: int) -> bytes:
        return os.read(self.reading, size)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.writing, view) :]


class Call:
    """A command that is running. ``pid`` is its own, or in the background its keeper's."""

    def __init__(
        self, *, number: int, pid: int, output: int, started: float, deadline: float, background: bool = False
    ) -> None:
        self.number = number
        self.background = background
        self.pid = pid
        self.output = output
        self.started = started
        self.deadline = deadline
        self.written = 0
        self.killed = ""
        self.status: int | None = None


class DiskWatch:
    """Whether the watched folders outgrow their limit, without walking them all the time.

    The file system's free space is cheap to ask for; only when it has shrunk by a step are the folders measured, in a
    forked child (which stays undumpable), since walking them would hold up the output.
    """

    def __init__(self, paths: list[str], limit: int) -> None:
        self.paths = paths
        self.limit = limit
        #: Free space at the last measurement that ended well.
        self.free = free_space(paths)
        self.child = 0
        self.pipe = -1
        self.not_before = 0.0
        self.began = 0.0

    def due(self) -> int:
        """By how much free space shrank since the last measurement, if by a step; others may have taken it."""
        grown = sum(max(0, self.free.setdefault(path, now) - now) for path, now in free_space(self.paths).items())
        return grown if grown >= max(self.limit // 8, 8 << 20) and time.monotonic() >= self.not_before else 0

    def begin(self) -> None:
        """Start measuring beside the command, when it is due."""
        grown = self.due()
        if not grown:
            return
        now = time.monotonic()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            child = os.fork()
        except BlockingIOError:  # the command used up the processes: measured at the next look
            os.close(reading)
            os.close(writing)
            return
        if child == 0:
            try:
                os.write(writing, b"%d" % (disk_used(self.paths, grown, now + 10) + held_by_processes()))
            finally:
                os._exit(0)
        os.close(writing)
        self.child, self.pipe, self.began = child, reading, now

    def over(self) -> bool:
        """Whether the measurement that just ended is over the limit; one that was shot counts as over."""
        said = os.read(self.pipe, 32)
        self.forget()
        self.settle()
        return not said or int(said) > self.limit

    def over_now(self) -> bool:
        """The same, measured on the spot when it is due: for the end of a call, when nothing runs any more."""
        grown = self.due()
        if not grown:
            return False
        self.began = time.monotonic()
        used = disk_used(self.paths, grown, self.began + 10)
        self.settle()
        return used > self.limit

    def settle(self) -> None:
        self.free = free_space(self.paths)
        # Measuring may take a fifth of the time at most.
        self.not_before = time.monotonic() + 5 * (time.monotonic() - self.began)

    def forget(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
        self.child, self.pipe = 0, -1


def free_space(paths: list[str]) -> dict[str, int]:
    """Free bytes of each file system that holds one of the paths, by one path of it."""
    free: dict[int, tuple[str, int]] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found = os.statvfs(path)
            free.setdefault(os.stat(path).st_dev, (path, found.f_bfree * found.f_frsize))
    return dict(free.values())


def disk_used(paths: list[str], grown: int, deadline: float) -> int:
    """Bytes on disk below the paths. What can't be looked into, or not in time, counts as having grown by ``grown``."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = list(paths)
    while pending:
        if time.monotonic() > deadline:
            return total + grown
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        pending.append(entry.path)
                    elif found.st_nlink > 1:
                        if (found.st_dev, found.st_ino) in seen:
                            continue
                        seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
        except FileNotFoundError:
            continue
        except OSError:
            total, grown = total + grown, 0
    return total


def held_by_processes() -> int:
    """Bytes of deleted files that a process still holds open: on disk, and in no folder."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for pid in process_ids():
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    found = os.stat(f"/proc/{pid}/fd/{name}")
                    if stat.S_ISREG(found.st_mode) and not found.st_nlink and (found.st_dev, found.st_ino) not in seen:
                        seen.add((found.st_dev, found.st_ino))
                        total += found.st_blocks * 512
    return total


def process_ids() -> list[int]:
    """Everything in this sandbox but this process itself."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def memory_over(limit: int) -> bool:
    """Whether the sandbox's processes together hold more than ``limit`` bytes.

    Resident sizes are cheap and count shared pages once for each process, so they only raise the question; what each
    process really adds (proportional anonymous and shared memory) answers it.
    """
    shared_memory = system_v_memory()
    resident: dict[int, int] = {}
    for pid in process_ids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", "rb") as file:
            resident[pid] = int(file.read().split()[1]) * PAGE
    if sum(resident.values()) + shared_memory <= limit:
        return False
    total = shared_memory
    for pid, size in resident.items():
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                for line in file:
                    if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
                        total += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            total += size
        if total > limit:
            return True
    return False


def system_v_memory() -> int:
    try:
        with open("/proc/sysvipc/shm", "rb") as file:
            header = file.readline().split()
            column = header.index(b"rss")
            return sum(int(line.split()[column]) for line in file)
    except (OSError, ValueError):
        return 0


class Server:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.channel = Channel(config.channel)
        self.received = bytearray()
        self.call: Call | None = None
        self.background: dict[int, Call] = {}
        self.forwarder = Forwarder(config) if config.proxy_socket else None
        self.disk = DiskWatch(config.watched, config.disk)
        self.wakeup, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # A handler has to be there for a child's end to write to the wake-up descriptor.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self.poll = select.poll()
        self.poll.register(self.channel, select.POLLIN)
        self.poll.register(self.wakeup, select.POLLIN)

    def calls(self) -> list[Call]:
        return [*([self.call] if self.call is not None else []), *self.background.values()]

    def serve(self) -> NoReturn:
        if self.forwarder is not None:
            self.forwarder.ensure()
        self.send({"event": "ready"})
        watch_at = 0.0
        while True:
            for descriptor, _ in self.poll.poll(WATCH * 1000 if self.calls() else None):
                if descriptor == self.wakeup:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wakeup, CHUNK)
                elif descriptor == self.channel.fileno():
                    self.receive()
                else:
                    for call in self.calls():
                        if call.output == descriptor:
                            self.pump(call)
            calls = self.calls()
            if not calls:
                watch_at = 0.0
                continue
            now = time.monotonic()
            for call in calls:
                if now >= call.deadline:
                    call.killed = "timeout"
            if now >= (watch_at := watch_at or now + WATCH) and not any(call.killed for call in calls):
                self.watch()
                # A sandbox with very many processes is looked at less often, so that looking stays cheap.
                watch_at = time.monotonic() + max(WATCH, 5 * (time.monotonic() - now))
            self.reap()
            if self.call is not None and (self.call.killed or self.call.status is not None):
                self.finish(self.call)
            for call in list(self.background.values()):
                if call.killed or call.status is not None:
                    self.background_finish(call)

    # --- the channel --------------------------------------------------------------------------------------------------
    def send(self, message: dict[str, Any]) -> None:
        self.send_frame(JSON, json.dumps(message).encode())

    def send_frame(self, kind: int, body: bytes) -> None:
        try:
            self.channel.sendall(HEADER.pack(len(body), kind) + body)
        except OSError:
            # Nobody is left to work for. Process 1 takes everything else with it.
            os._exit(1)

    def send_output(self, number: int, background: bool, data: bytes) -> None:
        if background:
            self.send_frame(BACKGROUND, NUMBER.pack(number) + data)
        else:
            self.send_frame(OUTPUT, data)

    def receive(self) -> None:
        try:
            data = self.channel.recv(CHUNK)
        except OSError:
            data = b""
        if not data:
            os._exit(1)
        self.received += data
        while len(self.received) >= HEADER.size:
            length, _ = HEADER.unpack_from(self.received)
            if len(self.received) < HEADER.size + length:
                return
            message = json.loads(self.received[HEADER.size : HEADER.size + length])
            del self.received[: HEADER.size + length]
            self.obey(message)

    def obey(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "run":
                self.start(message)
            case "cancel":
                if self.call is not None and self.call.number == message["id"]:
                    self.call.killed = "cancelled"
                elif message["id"] in self.background:
                    self.background[message["id"]].killed = "stopped"
            case "hold" | "release" as op:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGSTOP if op == "hold" else signal.SIGCONT)
                self.send({"event": "held" if op == "hold" else "released"})
            case _:
                self.send({"event": "pong"})

    # --- a call -------------------------------------------------------------------------------------------------------
    def start(self, message: dict[str, Any]) -> None:
        if self.forwarder is not None:
            self.forwarder.ensure()
        number, background = message["id"], bool(message.get("background"))
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        started = time.monotonic()
        try:
            pid = (keeper_start if background else command_spawn)(message, writing)
        except OSError as error:
            os.close(reading)
            code = 127 if error.errno == errno.ENOENT else 126
            self.send_output(number, background, spawn_problem(message, error))
            self.done(number, code, "", 0.0)
            return
        finally:
            os.close(writing)
        deadline = float("inf") if message["timeout"] is None else started + message["timeout"]
        call = Call(number=number, pid=pid, output=reading, started=started, deadline=deadline, background=background)
        if background:
            self.background[number] = call
        else:
            self.call = call
        self.poll.register(reading, select.POLLIN)

    def pump(self, call: Call) -> bool:
        """Pass on a piece of output; False when there is none now."""
        try:
            data = os.read(call.output, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            with contextlib.suppress(KeyError):
                self.poll.unregister(call.output)
            return False
        call.written += len(data)
        if call.written > self.config.output and not call.killed:
            call.killed = "output"
        if call.written <= self.config.output + CHUNK:
            self.send_output(call.number, call.background, data)
        return True

    def watch(self) -> None:
        if memory_over(self.config.memory):
            self.over("memory")
        elif not self.disk.child:
            self.disk.begin()

    def over(self, limit: str) -> None:
        """Kill for a limit: the one command first, since it came last; the others if that is not enough."""
        for call in [self.call] if self.call is not None else self.background.values():
            call.killed = call.killed or limit

    def reap(self) -> bool:
        """Collect the dead; False when this process has no child left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.disk.child:
                if self.disk.over():
                    self.over("disk")
                continue
            if self.forwarder is not None and pid == self.forwarder.pid:
                self.forwarder.pid = 0
                continue
            for call in self.calls():
                if pid == call.pid:
                    call.status = status

    def finish(self, call: Call) -> None:
        """Kill whatever is left, pass on the rest of the output, and report."""
        # First of all the result: what the command left behind can't change it any more.
        status = call.status
        self.disk.forget()
        self.clear()
        self.output_end(call)
        if not call.killed and self.disk.over_now():
            call.killed = "disk"
        self.call = None
        self.done(call.number, exit_code(call, status), call.killed, time.monotonic() - call.started)

    def background_finish(self, call: Call) -> None:
        """End one in the background: what it started goes with it."""
        status = call.status
        if status is None:
            tree_kill(call.pid)
        if self.call is None:
            self.disk.forget()
            self.clear()
        else:
            # What fell to this process meanwhile can't be told from what the one command started: it goes with that.
            while call.status is None and self.reap():
                self.rest()
        self.output_end(call)
        self.background.pop(call.number, None)
        self.done(call.number, exit_code(call, status), call.killed, time.monotonic() - call.started)

    def clear(self) -> None:
        """Kill everything but what runs in the background and belongs to it."""
        give_up = time.monotonic() + CLEAR
        quiet = 0
        while True:
            children = self.reap()
            keepers = [call for call in self.background.values() if call.status is None and not call.killed]
            if not keepers:
                if not children:
                    return
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
            else:
                spared = trees([call.pid for call in keepers])
                if self.forwarder is not None:
                    spared.add(self.forwarder.pid)
                strays = [pid for pid in process_ids() if pid not in spared]
                # Twice, since one that forks and ends all the time can slip through one look.
                quiet = 0 if strays else quiet + 1
                if quiet == 2:
                    return
                for pid in strays:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if time.monotonic() > give_up:
                    for call in keepers:
                        call.killed = "cleanup"
            self.rest()

    def rest(self) -> None:
        """Wait a moment for a child's end: somebody who can't be killed yet waits in the kernel (for a disk, say)."""
        select.select([self.wakeup], [], [], 0.01)
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup, CHUNK)

    def output_end(self, call: Call) -> None:
        while self.pump(call):
            pass
        with contextlib.suppress(KeyError):
            self.poll.unregister(call.output)
        os.close(call.output)

    def done(self, number: int, exit_code: int | None, killed: str, seconds: float) -> None:
        self.send({"event": "done", "id": number, "exit": exit_code, "killed": killed, "seconds": seconds})
        if self.config.once:
            os._exit(1 if exit_code is None else exit_code)


def exit_code(call: Call, status: int | None) -> int | None:
    """128 + N for a signal; None for what was killed here."""
    if call.killed or status is None:
        return None
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def command_spawn(message: dict[str, Any], writing: int) -> int:
    """Start a command with its output into the descriptor; its process id."""
    argv, env = message["argv"], message["env"]
    try:
        # The program's folder is process-wide, and only this thread starts programs.
        folder_enter(message["cwd"])
        return os.posix_spawn(
            program_find(argv[0], env.get("PATH", "")),
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 1),
                (os.POSIX_SPAWN_DUP2, writing, 2),
            ],
            setsid=True,
            setsigmask=[],
            # Python ignores these, and what is ignored is inherited.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    finally:
        os.chdir("/")


def spawn_problem(message: dict[str, Any], error: OSError) -> bytes:
    return f"{message['argv'][0]}: {os.strerror(error.errno or 0)}\n".encode()


def keeper_start(message: dict[str, Any], writing: int) -> int:
    """Fork the keeper of a command in the background; its process id. It ends as the command does."""
    pid = os.fork()
    if pid:
        return pid
    code = 126
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(writing, 1)
        # The channel above all.
        os.closerange(2, 4096)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            command = command_spawn(message, 1)
        except OSError as error:
            os.write(1, spawn_problem(message, error))
            code = 127 if error.errno == errno.ENOENT else 126
            command = 0
        os.close(1)
        while command:
            done, status = os.waitpid(-1, 0)
            if done == command:
                code = os.waitstatus_to_exitcode(status)
                code = 128 - code if code < 0 else code
                break
    finally:
        os._exit(code)


def parents() -> dict[int, int]:
    """Each process's parent."""
    found = {}
    for pid in process_ids():
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
            found[pid] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def trees(roots: list[int]) -> set[int]:
    """The processes and all that descend from them."""
    below: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        below.setdefault(parent, []).append(pid)
    found: set[int] = set()
    pending = list(roots)
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending += below.get(pid, ())
    return found


def tree_kill(root: int) -> None:
    """Kill a process and all that descends from it: first all are stopped, so that none slips away meanwhile."""
    stopped: set[int] = set()
    for _ in range(50):
        fresh = trees([root]) - stopped
        if not fresh:
            break
        for pid in fresh:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        stopped |= fresh
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def folder_enter(path: str) -> None:
    """Go to a folder, even if the last command took away the right to."""
    try:
        os.chdir(path)
    except PermissionError:
        os.chmod(path, 0o755)
        os.chdir(path)


def program_find(name: str, path: str) -> str:
    if "/" in name:
        return name
    for folder in path.split(":"):
        candidate = f"{folder}/{name}"
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


class Forwarder:
    """Listens on loopback from before any command runs, and has the program beside this one forward what connects.

    That program goes with what a command leaves behind, and is started again for the next one; the port stays ours.
    """

    def __init__(self, config: Config) -> None:
        self.listener = socket.create_server(("127.0.0.1", config.proxy_port), backlog=128)
        self.socket = config.proxy_socket
        self.pid = 0

    def ensure(self) -> None:
        """Have it run; without it, as when there are too many processes, nothing is reached."""
        if self.pid:
            return
        program = f"{os.path.dirname(os.path.abspath(__file__))}/forwarder.py"
        with contextlib.suppress(BlockingIOError):
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", program, "3", self.socket],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, self.listener.fileno(), 3)],
            )


def limits_apply(config: Config) -> None:
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 4096),
        (resource.RLIMIT_NPROC, config.processes),
        (resource.RLIMIT_FSIZE, config.disk),
        (resource.RLIMIT_MEMLOCK, 8 << 20),
    ):
        hard = resource.getrlimit(name)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (limit, limit))


def main() -> NoReturn:
    config = Config(**json.loads(sys.argv[1]))
    # When the host runs out of memory, a sandbox goes before anything else does.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("800")
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_DUMPABLE")
    os.umask(0o022)
    os.makedirs("/tmp/home", mode=0o700, exist_ok=True)
    limits_apply(config)
    Server(config).serve()


if __name__ == "__main__":
    main()
