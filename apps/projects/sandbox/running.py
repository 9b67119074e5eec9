"""A sandbox that runs: the host's side of the channel to the server in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from apps.projects.sandbox.channel import CLOSE_SECONDS, ExecChannel
from apps.projects.workspace import CommandResult, SandboxUnavailable

#: Longest that a boot may take on a busy machine.
_BOOT_SECONDS = 60.0
#: What a command that was killed from elsewhere ends with.
_SIGKILLED = 128 + 9
_DIED = "[The sandbox itself ended during this command. The next command gets a new one; what was in /tmp is gone.]"


class SandboxProcess(Protocol):
    """What holds a sandbox, as its host sees it: a bubblewrap, or a container."""

    @property
    def exited(self) -> asyncio.Future[int]:
        """Done when nothing of it runs any more; its result is how it ended, told from outside of it."""

    async def kill(self, *, at_once: bool = False) -> None:
        """Have it end. ``at_once``: by whatever is left to do; afterwards ``exited`` is sure to be done."""

    async def discard(self) -> None:
        """Leave nothing of it behind, now that it has ended."""

    def failure(self) -> SandboxUnavailable:
        """Why it ended before it was of any use."""

    async def overrun(self) -> str:
        """The limit for which something in it was killed from outside of it (`memory`), or nothing."""


class RunningSandbox:
    """A sandbox and the server in it. Belongs to the event loop that booted it; runs one command at a time."""

    def __init__(self, process: SandboxProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        #: What speaks to the server inside.
        self.channel = ExecChannel(reader, writer, end=self._end)
        self._closing = False

    @classmethod
    async def attach(
        cls, process: SandboxProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> RunningSandbox:
        """Wait until the server of a sandbox that was started answers; SandboxUnavailable says why it doesn't."""
        sandbox = cls(process, reader, writer)
        try:
            async with asyncio.timeout(_BOOT_SECONDS):
                await sandbox.channel.ready()
        except (asyncio.IncompleteReadError, ConnectionError):
            await sandbox.close()
            raise process.failure() from None
        except TimeoutError:
            await sandbox.close()
            raise SandboxUnavailable(
                f"The sandbox did not start within {_BOOT_SECONDS:.0f} s",
                next_step="See what keeps this machine busy, then try again.",
            ) from None
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    @property
    def alive(self) -> bool:
        return not (self._closing or self._process.exited.done()) and self.channel.alive

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        timeout: float,
        max_output: int,
        on_output: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run one command to its end. Cancelled, or failing in ``on_output``: it is dead before the error goes on."""
        result = await self.channel.run(argv, env=env, timeout=timeout, max_output=max_output, on_output=on_output)
        if result.killed == "sandbox" or result.exit_code == _SIGKILLED:
            limit = await self._process.overrun()
            result = replace(result, exit_code=None, killed=limit) if limit else result
        if result.killed == "sandbox":
            result = replace(result, output=f"{result.output}\n{_DIED}" if result.output else _DIED)
        return result

    async def exit_status(self) -> int:
        """Wait until it has ended, and return how: what the kernel or the engine says, not what was said inside."""
        return await asyncio.shield(self._process.exited)

    async def close(self) -> None:
        """End it and everything in it, and wait for that."""
        if self._closing:
            await self.exit_status()
            return
        self._closing = True
        await self.channel.close()
        try:
            if not await self._ended(CLOSE_SECONDS):
                await self._process.kill()
                if not await self._ended(CLOSE_SECONDS):
                    await self._process.kill(at_once=True)
                    await self.exit_status()
        finally:
            await self._process.discard()

    async def _end(self) -> None:
        await self._process.kill()
        await self.close()

    async def _ended(self, seconds: float) -> bool:
        done, _ = await asyncio.wait([self._process.exited], timeout=seconds)
        return bool(done)
