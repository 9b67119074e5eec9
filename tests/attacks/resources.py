"""Taking all there is: processes, memory, disk, the server's attention."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from apps.projects.workspace import SandboxLimits
from tests.attacks.attempt import Attempt, Outcome, Stage, outside, shown
from tests.attacks.payloads import FORK_BOMB, MANY_FILES, MEMORY_HOG
from tests.sandboxing import LIMITS, marker, processes_alive, processes_seen, python_inside

#: Seconds within which a neighbour has to answer.
NEIGHBOUR_SECONDS = 1.0
#: What the worker may grow by while a command prints without end.
GROWTH_MB = 16.0
ENDLESS_MB = 96


async def fork_bomb(stage: Stage) -> Outcome:
    mark, wanted = marker(), LIMITS.processes * 3
    async with stage.sandbox(name="one") as bombed, stage.sandbox(name="two") as neighbour:
        await neighbour.command_run("true", timeout=60)
        running = asyncio.create_task(bombed.command_run(["python3", "-c", FORK_BOMB, mark, str(wanted)], timeout=6))
        await processes_seen(mark, LIMITS.processes // 2)
        began = time.monotonic()
        answer = await neighbour.command_run("echo here", timeout=20)
        seconds = time.monotonic() - began
        await asyncio.sleep(1)
        most = len(processes_alive(mark))
        ended = await running
        left = processes_alive(mark)
    second = marker()
    with subprocess.Popen(
        [sys.executable, "-I", "-c", FORK_BOMB, second, str(wanted)], stdout=subprocess.PIPE, start_new_session=True
    ) as control:
        try:
            # Not to its end: what it started has it as well.
            said = control.stdout.readline().decode().strip() if control.stdout else ""
            alive = len(processes_alive(second))
        finally:
            os.killpg(control.pid, signal.SIGKILL)
    return Outcome(
        most <= LIMITS.processes and ended.killed == "timeout" and answer.output == "here\n"
        and seconds < NEIGHBOUR_SECONDS and not left,
        said == f"started {wanted}" and alive > LIMITS.processes,
        f"{most} processes on the host at most of {wanted} (the limit is {LIMITS.processes}), {len(left)} left; a "
        f"neighbour answered after {seconds * 1000:.0f} ms; outside {alive} ran",
    )  # fmt: skip


async def memory_hog(stage: Stage) -> Outcome:
    limits = SandboxLimits(memory_mb=300, disk_mb=256, processes=64)
    async with stage.sandbox(limits=limits) as workspace:
        result = await python_inside(workspace, MEMORY_HOG, "6", "100")
        following = await workspace.command_run("echo next", timeout=20)
    control = await outside(MEMORY_HOG, "6", "100")
    return Outcome(
        (result.exit_code, result.killed) == (None, "memory") and following.output.endswith("next\n"),
        control == "held 600",
        f"six processes of 100 MiB against 300: killed={result.killed!r}, {shown(result.output) or 'nothing said'}; "
        f"the next command {shown(following.output)}; outside {control} MiB",
    )


async def many_files(stage: Stage) -> Outcome:
    limits = SandboxLimits(memory_mb=512, disk_mb=100, processes=64)
    async with stage.sandbox(limits=limits) as workspace:
        result = await python_inside(workspace, MANY_FILES, "120", "8")
        size = _megabytes(stage.worktree())
        await workspace.command_run("rm -f fill-*", timeout=60)
        following = await workspace.command_run("echo room > file && echo next", timeout=20)
    apart = stage.folder / "apart"
    apart.mkdir()
    command = [sys.executable, "-I", "-c", MANY_FILES, "40", "8"]
    control = await asyncio.to_thread(subprocess.run, command, cwd=apart, capture_output=True, text=True)
    return Outcome(
        result.killed == "disk" and following.output == "next\n",
        control.stdout.strip() == "wrote 320" and _megabytes(apart) >= 320,
        f"960 MiB in 120 files against 100: killed={result.killed!r} with {size} MiB on the disk; after clearing "
        f"{shown(following.output)}; outside {control.stdout.strip()} MiB",
    )


def _megabytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) >> 20


class _Growth:
    """How much this process's resident size grew at most while it was looked at."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._first = self._most = self._resident()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Growth:
        self._first = self._most = self._resident()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def megabytes(self) -> float:
        return (self._most - self._first) / (1 << 20)

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self._most = max(self._most, self._resident())

    @staticmethod
    def _resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def endless_output(stage: Stage) -> Outcome:
    command = "yes 'there is always more to say'"
    async with stage.sandbox() as workspace:
        await workspace.command_run("echo warm", timeout=60)
        with _Growth() as kept:
            result = await workspace.command_run(command, timeout=30)
        following = await workspace.command_run("echo next", timeout=20)
    with _Growth() as naive:
        control = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", f"{command} | head -c {ENDLESS_MB}M"], stdout=subprocess.PIPE
        )
    length = len(control.stdout)
    return Outcome(
        result.killed == "output" and result.truncated and kept.megabytes < GROWTH_MB and following.output == "next\n",
        length == ENDLESS_MB << 20 and naive.megabytes > GROWTH_MB,
        f"killed={result.killed!r}, truncated={result.truncated}, {len(result.output)} characters kept; the worker "
        f"grew by {kept.megabytes:.1f} MiB; outside, all ({length >> 20} MiB), by {naive.megabytes:.1f} MiB",
    )


ATTEMPTS: dict[str, Attempt] = {
    "fork bomb": fork_bomb,
    "memory hog over several processes": memory_hog,
    "fill of many files": many_files,
    "endless output": endless_output,
}
