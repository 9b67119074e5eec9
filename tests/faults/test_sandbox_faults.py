"""Commands that take all they can get, and owners that die: bounded, with a named reason, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apps.projects.sandbox import sandbox_run
from apps.projects.workspace import SandboxLimits
from tests.sandboxing import (
    LIMITS,
    marker,
    opened,
    processes_alive,
    processes_gone,
    processes_seen,
    python_inside,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("each_sandbox")]


async def test_a_fork_bomb_is_bounded_and_a_neighbour_answers(tmp_path: Path) -> None:
    mark = marker()
    bomb = (
        "import os, sys\n"
        "while True:\n"
        "    try:\n"
        "        os.fork() or os.execvp('sleep', ['sleep', sys.argv[1]])\n"
        "    except BlockingIOError:\n"
        "        pass\n"
    )
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with opened(tmp_path / "one") as bombed, opened(tmp_path / "two") as neighbour:
        await neighbour.command_run("true", timeout=60)
        running = asyncio.create_task(
            bombed.command_run(
                'for i in 1 2 3; do python3 -c "$BOMB" $MARK & done; wait'.replace("$BOMB", bomb).replace(
                    "$MARK", mark
                ),
                timeout=5,
            )
        )
        await processes_seen(mark, LIMITS.processes // 2)
        async with asyncio.timeout(3):
            assert (await neighbour.command_run("echo here", timeout=20)).output == "here\n"
        assert len(processes_alive(mark)) <= LIMITS.processes
        assert (await running).killed == "timeout"
        assert processes_alive(mark) == []
        assert (await bombed.command_run("echo again", timeout=20)).output == "again\n"


async def test_the_classic_fork_bomb_is_over_with_its_call(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        result = await workspace.command_run("bomb() { bomb | bomb & }; bomb; sleep 2; echo lived", timeout=10)
        assert result.killed in ("", "timeout")
        following = await workspace.command_run("ls /proc | grep -cE '^[0-9]+$'", timeout=20)
        assert int(following.output) < 10


HOGS = {
    "one process": """
blocks = []
while True:
    blocks.append(bytearray(b"x") * (8 << 20))
""",
    "many small processes": """
import os, time
for _ in range(8):
    os.fork()
block = bytearray(b"x") * (4 << 20)
time.sleep(60)
""",
    "shared mappings": """
import mmap
blocks = []
while True:
    block = mmap.mmap(-1, 8 << 20)
    block.write(b"x" * (8 << 20))
    blocks.append(block)
""",
    "segments that nobody maps": """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
while True:
    segment = libc.shmget(0, 8 << 20, 0o1600)
    address = libc.shmat(segment, 0, 0)
    ctypes.memset(address, 1, 8 << 20)
    libc.shmdt(ctypes.c_void_p(address))
""",
}


@pytest.mark.parametrize("way", HOGS)
async def test_a_memory_hog_is_stopped_by_name(tmp_path: Path, way: str) -> None:
    limits = SandboxLimits(memory_mb=300, disk_mb=256, processes=300)
    async with opened(tmp_path, limits=limits) as workspace:
        result = await python_inside(workspace, HOGS[way])
        assert (result.exit_code, result.killed) == (None, "memory")
        assert (await workspace.command_run("echo next", timeout=20)).output.endswith("next\n")


async def test_memory_that_is_shared_is_counted_once(tmp_path: Path) -> None:
    limits = SandboxLimits(memory_mb=300, disk_mb=256, processes=64)
    shared = """
import os, time
block = bytearray(b"x") * (100 << 20)
children = []
for _ in range(8):
    child = os.fork()
    if not child:
        time.sleep(1)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
print("fine")
"""
    async with opened(tmp_path, limits=limits) as workspace:
        result = await python_inside(workspace, shared)
    assert (result.exit_code, result.killed, result.output) == (0, "", "fine\n")


FILL = {
    "one file": "cat /dev/zero > big; sleep 1",
    "many files": "for i in $(seq 100000); do head -c 1000000 /dev/zero > file$i; done",
    "deleted but open": (
        "exec 3> a 4> b 5> c; rm a b c; for fd in 3 4 5; do head -c 50000000 /dev/zero >&$fd; done; sleep 60"
    ),
    "quick commands": "head -c 50000000 /dev/zero > file$RANDOM$RANDOM",
}


@pytest.mark.parametrize("way", FILL)
async def test_a_worktree_that_is_filled_is_stopped_by_name(tmp_path: Path, way: str) -> None:
    limits = SandboxLimits(memory_mb=512, disk_mb=100, processes=64)
    killed = ""
    async with opened(tmp_path, limits=limits) as workspace:
        for _ in range(10):
            result = await workspace.command_run(FILL[way], timeout=60)
            killed = killed or result.killed
            if killed:
                break
        size = int(subprocess.check_output(["du", "-sm", tmp_path]).split()[0])
        await workspace.command_run("rm -f *", timeout=60)
        assert (await workspace.command_run("echo room > file", timeout=20)).exit_code == 0
    if way == "one file":
        # The file's own limit stops it first, and the command is told.
        assert size <= 101
    else:
        assert killed == "disk"
        # What gets through between two looks is bounded by the disk's speed, so the bound here is a loose one.
        assert size < 1500


OWNER = """
import asyncio, signal, sys
from pathlib import Path
from tests.sandboxing import opened

async def main():
    async with opened(Path(sys.argv[1])) as workspace:
        await workspace.command_run(
            "trap '' TERM HUP INT; for i in 1 2 3; do setsid sleep %s & done; wait" % sys.argv[2], timeout=600
        )

# A shell that started the tests in the background has had it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
async def test_nothing_outlives_the_server(tmp_path: Path, how: signal.Signals) -> None:
    mark = marker()
    # The mark is no argument of its own here, so the owner isn't counted.
    owner = subprocess.Popen([sys.executable, "-c", OWNER.replace("sys.argv[2]", repr(mark)), str(tmp_path)])
    try:
        await processes_seen(mark, 3)
        owner.send_signal(how)
        await asyncio.to_thread(owner.wait, 30)
        assert await processes_gone(mark)
    finally:
        owner.kill()


async def test_nothing_outlives_a_cancelled_check(tmp_path: Path) -> None:
    mark = marker()
    work = tmp_path / "work"
    work.mkdir()
    running = asyncio.create_task(
        sandbox_run(command=f"trap '' TERM; setsid sleep {mark} & wait", workspace=work, limits=LIMITS, timeout=600)
    )
    await processes_seen(mark, 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert processes_alive(mark) == []


async def test_a_sandbox_that_nobody_waits_for_any_more_is_not_left_running(tmp_path: Path) -> None:
    """Cancelled at every moment of a start."""
    work = tmp_path / "work"
    work.mkdir()
    for delay in (0, 0.001, 0.005, 0.01, 0.03, 0.05):
        running = asyncio.create_task(sandbox_run(command="true", workspace=work, limits=LIMITS, timeout=60))
        await asyncio.sleep(delay)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    for _ in range(100):
        if not [pid for pid in children_of(os.getpid()) if b"bwrap" in command_of(pid)]:
            return
        await asyncio.sleep(0.1)
    pytest.fail("a sandbox is left")


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        # Threads come and go.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
