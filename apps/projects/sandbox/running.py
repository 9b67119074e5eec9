"""A sandbox that runs: the host's side of the channel to the server in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from apps.projects.sandbox.output import OutputBuffer
from apps.projects.workspace import SANDBOX_WORKSPACE, CommandResult, SandboxUnavailable

_HEADER = struct.Struct("!IB")
_JSON = 0
#: Longest that a boot may take on a busy machine, and longest after its deadline that a call may take to be over.
_BOOT_SECONDS = 60.0
_GRACE_SECONDS = 10.0
_CLOSE_SECONDS = 3.0
#: What a command that was killed from elsewhere ends with.
_SIGKILLED = 128 + 9
_DIED = "[The sandbox itself ended during this command. The next command gets a new one; what was in /tmp is gone.]"


@dataclass(frozen=True)
class _Done:
    exit_code: int | None
    killed: str


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
        self._reader = reader
        self._writer = writer
        self._calls = 0
        self._closing = False

    @classmethod
    async def attach(
        cls, process: SandboxProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> RunningSandbox:
        """Wait until the server of a sandbox that was started answers; SandboxUnavailable says why it doesn't."""
        sandbox = cls(process, reader, writer)
        try:
            async with asyncio.timeout(_BOOT_SECONDS):
                await sandbox._frame()
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
        return not (self._closing or self._process.exited.done() or self._reader.at_eof())

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
        self._calls += 1
        number = self._calls
        output = OutputBuffer(limit=max_output, listener=on_output)
        started = time.monotonic()
        request = {"id": number, "argv": list(argv), "env": dict(env), "cwd": SANDBOX_WORKSPACE, "timeout": timeout}
        with contextlib.suppress(ConnectionError):  # the answer tells that it is gone
            await self._send({"op": "run", **request})
        collecting = asyncio.ensure_future(self._collect(output))
        try:
            # The server inside keeps the time; the host only doesn't rely on it.
            async with asyncio.timeout(timeout + _GRACE_SECONDS):
                done = await asyncio.shield(collecting)
        except TimeoutError:
            await self._end(collecting)
            done = _Done(None, "timeout")
        except BaseException:
            await self._abandon(number, collecting)
            raise
        if done.killed == "sandbox" or done.exit_code == _SIGKILLED:
            limit = await self._process.overrun()
            done = _Done(None, limit) if limit else done
        text = output.text()
        if done.killed == "sandbox":
            text = f"{text}\n{_DIED}" if text else _DIED
        return CommandResult(
            exit_code=done.exit_code,
            output=text,
            truncated=output.truncated,
            seconds=time.monotonic() - started,
            killed=done.killed,
        )

    async def exit_status(self) -> int:
        """Wait until it has ended, and return how: what the kernel or the engine says, not what was said inside."""
        return await asyncio.shield(self._process.exited)

    async def close(self) -> None:
        """End it and everything in it, and wait for that."""
        if self._closing:
            await self.exit_status()
            return
        self._closing = True
        # Without a host at the other end the server exits, and the kernel takes the rest of its namespace.
        self._writer.close()
        try:
            if not await self._ended(_CLOSE_SECONDS):
                await self._process.kill()
                if not await self._ended(_CLOSE_SECONDS):
                    await self._process.kill(at_once=True)
                    await self.exit_status()
        finally:
            await self._process.discard()

    # --- the channel --------------------------------------------------------------------------------------------------
    async def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self._writer.write(_HEADER.pack(len(body), _JSON) + body)
        await self._writer.drain()

    async def _frame(self) -> tuple[int, bytes]:
        length, kind = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        return kind, await self._reader.readexactly(length)

    async def _collect(self, output: OutputBuffer) -> _Done:
        while True:
            try:
                kind, body = await self._frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                return _Done(None, "sandbox")
            if kind == _JSON:
                message = json.loads(body)
                return _Done(message["exit"], message["killed"])
            output.add(body)

    async def _abandon(self, number: int, collecting: asyncio.Task[_Done]) -> None:
        """Have a call killed, and be sure of it, even if cancelled once more meanwhile."""
        with contextlib.suppress(ConnectionError):
            await self._send({"op": "cancel", "id": number})
        if collecting.done():  # it failed on our side, so the channel stands in the middle of the answer
            await self._end(collecting)
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.shield(collecting)
        except BaseException as error:
            await self._end(collecting)
            if not isinstance(error, Exception):
                raise

    async def _end(self, collecting: asyncio.Task[_Done]) -> None:
        collecting.cancel()
        await self._process.kill()
        await self.close()
        await asyncio.gather(collecting, return_exceptions=True)

    async def _ended(self, seconds: float) -> bool:
        done, _ = await asyncio.wait([self._process.exited], timeout=seconds)
        return bool(done)
