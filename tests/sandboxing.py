"""Opening sandboxes in tests, and looking at them from the host's side."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from pytest_django import Settings

from apps.projects.sandbox import Bind, SandboxWorkspace, workspace_open
from apps.projects.workspace import CommandResult, SandboxLimits, Worktree
from tests.loopback.engine_server import Engine, EngineServer

LIMITS = SandboxLimits(memory_mb=512, disk_mb=256, processes=64)


@contextmanager
def engine_open(settings: Settings, engine: Engine | None = None) -> Iterator[EngineServer]:
    """The container adapter on an engine of the test's own; in the end nothing may be left on it.

    But for what workers left that died: that is there until another looks for it, as happens here.
    """
    # Not in the test's folder: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="archon-engine-") as folder:
        with EngineServer(Path(folder) / "engine.sock", engine=engine) as server:
            settings.ARCHON_SANDBOX = "container"
            settings.ARCHON_CONTAINER_ENGINE = server.address
            yield server
            if server.engine.containers:
                asyncio.run(leftovers_swept())
            assert server.engine.containers == {}, "containers were left on the engine"


async def leftovers_swept() -> int:
    """Look for what dead workers left, as a worker does that starts a container; how many there were."""
    from apps.projects.sandbox import container
    from apps.projects.sandbox.container_engine import ContainerSettings
    from apps.projects.sandbox.container_engine import Engine as EngineClient
    from apps.projects.sandbox.container_leftovers import leftovers_remove, worker_get

    client = EngineClient(ContainerSettings.read())
    try:
        return await leftovers_remove(client, worker=worker_get(container.state_folder()), now=True)
    finally:
        await client.close()


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    limits: SandboxLimits = LIMITS,
    env: Mapping[str, str] | None = None,
    extra_binds: Sequence[Bind] = (),
) -> AsyncIterator[SandboxWorkspace]:
    """A workspace over ``folder/worktree``, made if it isn't there."""
    path = folder / "worktree"
    path.mkdir(exist_ok=True)
    worktree = Worktree(path=path, git_dir=folder / "git", index=folder / "index", branch="b", base_commit="c")
    async with workspace_open(worktree, limits=limits, env=env, extra_binds=extra_binds) as workspace:
        yield workspace


async def python_inside(workspace: SandboxWorkspace, code: str, *arguments: str) -> CommandResult:
    return await workspace.command_run(["python3", "-I", "-c", code, *arguments], timeout=60)


def python_outside(code: str, *arguments: str) -> str:
    """The same on the host, as a control: what the code prints."""
    result = subprocess.run(
        [sys.executable, "-I", "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    return result.stdout.decode().strip()


def names(folder: Path) -> list[str]:
    """What is in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


def marker() -> str:
    """An argument for ``sleep`` by which its processes are found on the host: long enough to outlive any test."""
    return f"{3600 + secrets.randbelow(100_000)}.{secrets.randbelow(10**9):09}"


def processes_alive(mark: str) -> list[int]:
    """The host's processes that have the mark in their command line and still run."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if mark.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(process.name))
    return found


async def processes_gone(mark: str) -> bool:
    """Whether all of them end soon; False when one is still there after a while."""
    for _ in range(100):
        if not processes_alive(mark):
            return True
        await asyncio.sleep(0.1)
    return False


async def processes_seen(mark: str, count: int) -> None:
    """Wait until so many of them run."""
    async with asyncio.timeout(30):
        while len(processes_alive(mark)) < count:
            await asyncio.sleep(0.02)
