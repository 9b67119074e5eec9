"""Names that mean something else a moment later, and files that aren't any, under the server's own hands."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from apps.projects.sandbox import SandboxWorkspace
from apps.projects.workspace import WorkspaceError
from tests.attacks.attempt import Attempt, Outcome, Stage
from tests.attacks.payloads import SWAP

#: How long the server's side goes on reading or writing, how long until it has met both of what is swapped on a machine
#: that is busy, and longest that a FIFO may take.
RACE_SECONDS = 2.0
MEETING_SECONDS = 20.0
#: What is said of a read or a write within the worktree.
EXPECTED = ("inside", "wrote")
FIFO_SECONDS = 1.0


async def _swapped(stage: Stage, work: Callable[[SandboxWorkspace], Awaitable[str]]) -> list[str]:
    """What came of doing the work again and again while a command in the sandbox swaps the link."""
    outside = stage.folder / "outside"
    async with stage.sandbox() as workspace:
        command = ["python3", "-c", SWAP, "link", "folder", str(outside)]
        await workspace.background_start(command, name="swap", timeout=60)
        link = stage.worktree() / "link"
        while not link.is_symlink():
            await asyncio.sleep(0.01)
        said: list[str] = []
        began = time.monotonic()
        while (passed := time.monotonic() - began) < RACE_SECONDS or (
            passed < MEETING_SECONDS and len({*said} & {"refused", *EXPECTED}) < 2
        ):
            try:
                said.append(await work(workspace))
            except WorkspaceError:
                said.append("refused")
            await asyncio.sleep(0)
        await workspace.background_stop("swap")
    return said


def _naive(stage: Stage, link: Path, work: Callable[[], str]) -> list[str]:
    """The same by plain calls of the system, with the same program beside it."""
    folder = link.with_name("naive-folder")
    with subprocess.Popen([sys.executable, "-c", SWAP, str(link), str(folder), str(stage.folder / "outside")]) as swap:
        while not link.is_symlink():
            time.sleep(0.01)
        said = []
        until = time.monotonic() + RACE_SECONDS
        while time.monotonic() < until:
            try:
                said.append(work())
            except OSError:
                said.append("refused")
        swap.kill()
    return said


async def swap_read(stage: Stage) -> Outcome:
    outside = stage.folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("canary")

    async def read(workspace: SandboxWorkspace) -> str:
        return (await workspace.file_read("link/file")).decode()

    said = await _swapped(stage, read)
    naive = stage.folder / "naive"
    plain = await asyncio.to_thread(_naive, stage, naive, lambda: (naive / "file").read_text())
    return Outcome(
        "canary" not in said and "inside" in said and "refused" in said,
        "canary" in plain,
        f"of {len(said)} reads {said.count('inside')} were of the worktree, {said.count('refused')} refused, "
        f"{said.count('canary')} of the host; by plain open {plain.count('canary')} of {len(plain)}",
    )


async def swap_write(stage: Stage) -> Outcome:
    outside = stage.folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    count = 0

    async def write(workspace: SandboxWorkspace) -> str:
        nonlocal count
        count += 1
        await workspace.file_write(f"link/new-{count}", b"from the server")
        return "wrote"

    said = await _swapped(stage, write)
    escaped = len(list(outside.iterdir()))
    naive = stage.folder / "naive"
    numbers = iter(range(10**9))

    def plain_write() -> str:
        (naive / f"plain-{next(numbers)}").write_text("from the server")
        return "wrote"

    plain = await asyncio.to_thread(_naive, stage, naive, plain_write)
    landed = len(list(outside.iterdir())) - escaped
    return Outcome(
        escaped == 0 and "wrote" in said,
        landed > 0,
        f"of {said.count('wrote')} writes {escaped} landed on the host ({said.count('refused')} refused); by plain "
        f"open {landed} of {plain.count('wrote')}",
    )


async def _fifo(stage: Stage, work: Callable[[SandboxWorkspace], Awaitable[object]], naive: str) -> Outcome:
    """The work on a FIFO ends at once; a plain program of the same doesn't."""
    async with stage.sandbox() as workspace:
        await workspace.command_run("mkfifo pipe", timeout=60)
        began = time.monotonic()
        try:
            await asyncio.wait_for(work(workspace), 30)
            said = "done"
        except WorkspaceError as error:
            said = f"refused: {error}"
        seconds = time.monotonic() - began
        still = stage.worktree() / "pipe"
        kind = "a FIFO still" if still.is_fifo() else "a file now" if still.is_file() else "gone"
    apart = stage.folder / "pipe"
    os.mkfifo(apart)
    try:
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-I", "-c", naive, str(apart)], timeout=2, stderr=subprocess.DEVNULL
        )
        hung = False
    except subprocess.TimeoutExpired:
        hung = True
    return Outcome(
        seconds < FIFO_SECONDS,
        hung,
        f"{said} after {seconds * 1000:.0f} ms, it is {kind}; a plain open {'hung' if hung else 'came back'}",
    )


async def fifo_read(stage: Stage) -> Outcome:
    return await _fifo(stage, lambda workspace: workspace.file_read("pipe"), "import sys; open(sys.argv[1]).read()")


async def fifo_write(stage: Stage) -> Outcome:
    naive = "import sys; open(sys.argv[1], 'w').write('x')"
    return await _fifo(stage, lambda workspace: workspace.file_write("pipe", b"x"), naive)


ATTEMPTS: dict[str, Attempt] = {
    "symlink swapped during reads": swap_read,
    "symlink swapped during writes": swap_write,
    "FIFO in the place of a file that is read": fifo_read,
    "FIFO in the place of a file that is written": fifo_write,
}
