"""Ways out of a sandbox that have to be shut. Each attempt is also made outside, to show that it would work there."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from apps.projects.sandbox import sandbox_run
from apps.projects.sandbox.toolchains import toolchain_list
from tests.attacks.payloads import CONNECT, FORGE, READ, SIGNAL, WRITE
from tests.sandboxing import (
    LIMITS,
    names,
    opened,
    python_inside,
    python_outside,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("each_sandbox")]


async def test_the_hosts_files_cannot_be_read(tmp_path: Path) -> None:
    secret = f"canary-{secrets.token_hex(8)}"
    other = tmp_path / "another-project"
    other.mkdir()
    (other / "secret").write_text(secret)
    process = subprocess.Popen(["sleep", "600"], env={"CANARY": secret})
    try:
        paths = [
            str(other / "secret"),
            f"/proc/{process.pid}/environ",
            str(Path(__file__)),
            "/etc/hostname",
            *(["/etc/shadow"] if os.geteuid() == 0 else []),
        ]
        async with opened(tmp_path) as workspace:
            (tmp_path / "worktree/link").symlink_to(other / "secret")
            for path in paths:
                assert python_outside(READ, path).startswith("b'"), path
            for path in [
                *paths,
                "link",
                "../another-project/secret",
                "/etc/shadow",
                "/proc/1/environ",
                "/proc/1/root/etc",
            ]:
                result = await python_inside(workspace, READ, path)
                assert result.output.startswith("denied"), (path, result.output)
            for folder in ("/home", "/var", "/boot", "/sys", "/srv", "/mnt", "/media", "/opt", str(other)):
                shown = await workspace.command_run(["find", folder, "-type", "f"], timeout=60)
                # At most a toolchain that lives there, with the folders above it.
                roots = [str(toolchain.root) for toolchain in toolchain_list() if toolchain.root is not None]
                assert all(path.startswith((*roots, "find:")) for path in shown.output.splitlines()), folder
            accounts = await workspace.command_run("cat /etc/passwd", timeout=20)
            assert "agent" in accounts.output and len(accounts.output.splitlines()) == 3
            environment = await workspace.command_run("env; cat /proc/*/environ", timeout=20)
        assert secret not in environment.output
        for name in ("DB_PASSWORD", "DJANGO_SETTINGS_MODULE", "REDIS_URL"):
            assert name not in environment.output
    finally:
        process.kill()
        process.wait()


async def test_the_hosts_files_cannot_be_written(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    async with opened(tmp_path) as workspace:
        (tmp_path / "worktree/link").symlink_to(victim)
        control = tmp_path / "control"
        control.write_text("x")
        assert "wrote" in python_outside(WRITE, str(control)) and control.read_text() == "changed"
        result = await python_inside(
            workspace,
            WRITE,
            str(victim),
            "../victim",
            "link",
            "/usr/bin/new",
            "/etc/passwd",
            "/run/archon/exec_server.py",
        )
    assert result.output.split() == [word for code in result.output.split()[1::2] for word in ("denied", code)]
    assert victim.read_text() == "untouched"
    assert names(tmp_path) == ["control", "victim", "worktree"]


async def test_nothing_of_the_hosts_network_is_reached(tmp_path: Path) -> None:
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(10))
        writer.close()

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            received.append(data)

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(
        listen, sock=socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    )
    port = str(server.sockets[0].getsockname()[1])
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", int(port)))
    abstract = f"@archon-test-{secrets.token_hex(4)}"
    # A path that is the same inside, in case /tmp were the host's.
    pathname = f"/tmp/archon-test-{secrets.token_hex(4)}"
    unix = [await asyncio.start_unix_server(listen, name.replace("@", "\0")) for name in (abstract, pathname)]
    mine = socket.gethostbyname(socket.gethostname())
    targets = [
        ("tcp", "127.0.0.1", port), ("tcp", "::1", port), ("tcp", "::ffff:127.0.0.1", port), ("tcp", mine, port),
        ("udp", "127.0.0.1", port), ("unix", abstract), ("unix", pathname),
    ]  # fmt: skip
    try:
        for target in targets:
            assert await asyncio.to_thread(python_outside, CONNECT, *target) == "connected", target
        await asyncio.sleep(0.1)
        count = len(received)
        assert count >= 5
        async with opened(tmp_path) as workspace:
            for target in [*targets, ("udp", "1.1.1.1", "53"), ("tcp", "169.254.169.254", "80"), ("vsock",)]:
                result = await python_inside(workspace, CONNECT, *target)
                # Loopback is the sandbox's own: a datagram to it may be sent, to nobody.
                assert result.output.startswith("denied") or target[:2] == ("udp", "127.0.0.1"), (target, result.output)
        await asyncio.sleep(0.1)
        assert len(received) == count
    finally:
        transport.close()
        for listener in (server, *unix):
            listener.close()
        os.unlink(pathname)


CALL = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
arguments = [int(a) if a.lstrip("-").isdigit() else a.encode() for a in sys.argv[1:]]
print(libc.syscall(*arguments), ctypes.get_errno())
"""
X86_CALLS = {
    "mount a tmpfs": ("165", "none", "/tmp", "tmpfs", "0", "0"),
    "unshare a user namespace": ("272", str(0x10000000)),
    "unshare a mount namespace": ("272", str(0x20000)),
    "clone a user namespace": ("56", str(0x10000000 | 17), "0", "0", "0", "0"),
    "join a namespace": ("308", "0", "0"),
    "ptrace": ("101", "0", "0", "0", "0"),
    "read another's memory": ("310", "1", "0", "0", "0", "0", "0"),
    "io_uring": ("425", "1", "0"),
    "keyctl": ("250", "0", "-3", "0"),
    "add a key": ("248", "user", "a", "b", "1", "-3"),
    "bpf": ("321", "0", "0", "0"),
    "userfaultfd": ("323", "1"),
    "perf events": ("298", "0", "0", "-1", "-1", "0"),
    "open by handle": ("304", "0", "0", "0"),
    "chroot": ("161", "/tmp"),
    "kernel log": ("103", "10", "0", "0"),
    "new mount API": ("430", "tmpfs", "0"),
    "load a module": ("313", "0", "0", "0"),
    "reboot": ("169", "0", "0", "0", "0"),
    "odd personality": ("135", str(0x0400000)),
    "push into a terminal": ("16", "0", str(0x5412), "0"),
}


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the numbers are of x86_64; a unit test has those of aarch64"
)
async def test_calls_that_reach_into_the_kernel_are_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        for name, call in X86_CALLS.items():
            result = await python_inside(workspace, CALL, *call)
            assert result.output == "-1 1\n", (name, result.output)
        # 435: what a libc falls back from; 319: memory that belongs to no process.
        for number in ("435", "319"):
            assert (await python_inside(workspace, CALL, number, "0", "0")).output == "-1 38\n"
    # Control: it is the filter that says so, not these calls' nature.
    refused = [name for name, call in X86_CALLS.items() if name in ("userfaultfd", "keyctl", "ptrace")
               and python_outside(CALL, *call) == "-1 1"]  # fmt: skip
    assert refused == []


async def test_the_hosts_processes_are_out_of_reach(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        async with opened(tmp_path) as workspace:
            assert python_outside(SIGNAL, str(process.pid), "0") == "sent"
            # Beyond the numbers that the sandbox's own few processes have.
            if process.pid > 1000:
                assert (await python_inside(workspace, SIGNAL, str(process.pid), "9")).output == "denied 3\n"
            listed = await workspace.command_run("ls /proc | grep -E '^[0-9]+$' | wc -l", timeout=20)
            assert int(listed.output) < 10
            result = await workspace.command_run("kill -9 -1; kill -9 1; echo survived", timeout=20)
            assert result.exit_code == 0 and "survived" in result.output
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)


async def test_a_set_user_id_program_gains_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        program = tmp_path / "worktree/bash"
        shutil.copy("/bin/bash", program)
        program.chmod(0o4755)  # root's, when root runs this
        result = await workspace.command_run(
            "./bash -p -c 'id -u; id -ru; grep NoNewPrivs /proc/self/status'", timeout=20
        )
    effective, real, *privileges = result.output.split()
    assert effective == real != "0" and privileges == ["NoNewPrivs:", "1"]


async def test_the_server_inside_cannot_be_read_or_spoken_for(tmp_path: Path) -> None:
    """A result forged by what runs inside: by the server's memory, its descriptors, or its end of the channel."""
    async with opened(tmp_path) as workspace:
        result = await python_inside(workspace, FORGE)
        assert (result.exit_code, result.output) == (5, "[]\n")
    background = f"import os\nif os.fork():\n    os._exit(5)\n{FORGE}"
    work = tmp_path / "work"
    work.mkdir()
    fresh = await sandbox_run(command=["python3", "-c", background], workspace=work, limits=LIMITS, timeout=60)
    assert fresh.exit_code == 5


#: Prints every folder of the root's device, and every mount, in which a file can be made.
WRITABLE = """
import os
device = os.stat("/").st_dev
folders = {line.split()[1] for line in open("/proc/mounts")}
for folder, below, files in os.walk("/"):
    below[:] = [name for name in below if os.lstat(os.path.join(folder, name)).st_dev == device]
    folders.add(folder)
for folder in sorted(folders):
    try:
        os.close(os.open(f"{folder}/new", os.O_CREAT | os.O_EXCL))
    except OSError:
        continue
    print(folder)
    os.remove(f"{folder}/new")
"""


async def test_memory_without_a_bound_of_its_own_has_one(tmp_path: Path) -> None:
    """Every place that can be written is on the worktree's disk or of a fixed size."""
    async with opened(tmp_path) as workspace:
        result = await python_inside(workspace, WRITABLE)
        assert result.output.split() == ["/dev/shm", "/tmp", "/workspace"]
        filled = await workspace.command_run(
            "for d in /dev/shm /tmp; do for i in 1 2 3 4 5 6; do head -c 60M /dev/zero > $d/$i; done; done", timeout=60
        )
    # 64 MiB and half of the memory limit.
    assert filled.output.count("No space left on device") == 5 + 2, filled.output


async def test_the_tests_ran_as(tmp_path: Path) -> None:
    """Who starts the server changes who a sandbox is on the host, and never makes it root."""
    async with opened(tmp_path) as workspace:
        await workspace.command_run("touch made", timeout=20)
    owner = (tmp_path / "worktree/made").stat().st_uid
    assert owner != 0
    if os.geteuid() != 0:
        assert owner == os.geteuid()
    assert sys.platform == "linux"
