"""What an attempt is: a payload in the sandbox, the same one without it, and what the host saw of either."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from apps.projects.sandbox import SandboxWorkspace
from apps.projects.workspace import SandboxLimits
from tests.sandboxing import LIMITS, opened, python_inside, python_outside


@dataclass(frozen=True)
class Outcome:
    """``control``: the payload did succeed where nothing guarded against it, in this run; else the attempt is void."""

    blocked: bool
    control: bool
    #: What was seen on the host's side, and what the payload said.
    evidence: str


@dataclass(frozen=True)
class Stage:
    """Where an attempt plays: an empty folder that goes afterwards, with room for worktrees."""

    folder: Path

    @asynccontextmanager
    async def sandbox(self, *, name: str = "mine", limits: SandboxLimits = LIMITS) -> AsyncIterator[SandboxWorkspace]:
        """A workspace over ``folder/NAME/worktree``."""
        (self.folder / name).mkdir(exist_ok=True)
        async with opened(self.folder / name, limits=limits) as workspace:
            yield workspace

    def worktree(self, name: str = "mine") -> Path:
        path = self.folder / name / "worktree"
        path.mkdir(parents=True, exist_ok=True)
        return path


Attempt = Callable[[Stage], Awaitable[Outcome]]


@asynccontextmanager
async def stage_open() -> AsyncIterator[Stage]:
    """A stage that the sandbox's user can reach."""
    with tempfile.TemporaryDirectory(prefix="archon-attack-") as folder:
        Path(folder).chmod(0o755)
        yield Stage(Path(folder))


async def inside(workspace: SandboxWorkspace, code: str, *arguments: str) -> str:
    """What a Python payload prints in the sandbox."""
    return (await python_inside(workspace, code, *arguments)).output.strip()


async def outside(code: str, *arguments: str) -> str:
    """What the same payload prints as a child of this process, by this process's user."""
    return await asyncio.to_thread(python_outside, code, *arguments)


async def tried(attempt: Attempt) -> Outcome:
    """The attempt's outcome; one that breaks down proves nothing, and says why."""
    try:
        async with asyncio.timeout(150), stage_open() as stage:
            return await attempt(stage)
    # Whatever it is, the other attempts are still worth making.
    except Exception as error:  # noqa: BLE001
        return Outcome(False, False, f"the attempt broke down: {type(error).__name__}: {error}"[:2000])


def shown(text: str, length: int = 160) -> str:
    """A payload's words for the evidence: one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:length]}…"
