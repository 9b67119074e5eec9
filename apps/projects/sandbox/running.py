"""A sandbox that runs: the host's side of the channel to the server in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.projects.sandbox.bubblewrap import SandboxSpec, Spawned, sandbox_spawn
from apps.projects.sandbox.output import OutputBuffer
from apps.projects.workspace import SANDBOX_WORKSPACE, CommandResult, SandboxUnavailable

_HEADER = struct.Struct("!IB")
_JSON = 0
#: Longest that a boot may take on a busy machine, and longest after its deadline that a call may take to be over.
_BOOT_SECONDS = 60.0
_GRACE_SECONDS = 10.0
_CLOSE_SECONDS = 3.0
_DIED = "[The sandbox itself ended during this command. The next command gets a new one; what was in /tmp is gone.]"


@dataclass(frozen=True)
class _Done:
    exit_code: int | None
    killed: str


class RunningSandbox:
    """One bubblewrap and the server in it. Belongs to the event loop that booted it; runs one command at a time."""

    def __init__(self, spawned: Spawned, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = spawned.process
        self._errors = spawned.errors
        self._reader = reader
        self._writer = writer
        self._calls = 0
        self._closing = False
        loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(self._pidfd, self._on_exit)

    @classmethod
    async def boot(cls, spec: SandboxSpec) -> RunningSandbox:
        """Start it and wait until its server answers; SandboxUnavailable says why it doesn't."""
        spawning = asyncio.wrap_future(sandbox_spawn(spec))
        try:
            spawned = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            spawning.add_done_callback(_discard)
            raise
        except OSError as error:
            raise SandboxUnavailable(f"The sandbox can't be started: {error}", next_step=_NEXT_STEP) from error
        reader, writer = await asyncio.open_unix_connection(sock=spawned.channel, limit=1 << 20)
        sandbox = cls(spawned, reader, writer)
        try:
            async with asyncio.timeout(_BOOT_SECONDS):
                await sandbox._frame()
        except (asyncio.IncompleteReadError, ConnectionError):
            await sandbox.close()
            raise SandboxUnavailable(
                f"The sandbox can't be started: {sandbox.error_text() or 'bubblewrap ended without a word'}",
                next_step=_NEXT_STEP,
            ) from None
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
        return not (self._closing or self._exited.done() or self._reader.at_eof())

    @property
    def process_id(self) -> int:
        """The outermost bubblewrap, on the host."""
        return self._process.pid

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
        """Wait until it has ended, and return what the kernel says of bubblewrap's end."""
        return await asyncio.shield(self._exited)

    async def close(self) -> None:
        """End it and everything in it, and wait for that."""
        if self._closing:
            await self.exit_status()
            return
        self._closing = True
        # Without a host at the other end the server exits, and the kernel takes the rest of its namespace.
        self._writer.close()
        if not await self._ended(_CLOSE_SECONDS):
            self._kill_inside()
            if not await self._ended(_CLOSE_SECONDS):
                self._process.kill()
                await self.exit_status()

    def error_text(self) -> str:
        """What bubblewrap or the server complained of."""
        return os.pread(self._errors, 4000, 0).decode(errors="replace").strip() if self._errors >= 0 else ""

    def __del__(self) -> None:
        if self._errors >= 0:
            os.close(self._errors)

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
        self._kill_inside()
        await self.close()
        await asyncio.gather(collecting, return_exceptions=True)

    # --- the process --------------------------------------------------------------------------------------------------
    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        if not self._exited.done():
            self._exited.set_result(status)

    async def _ended(self, seconds: float) -> bool:
        done, _ = await asyncio.wait([self._exited], timeout=seconds)
        return bool(done)

    def _kill_inside(self) -> None:
        """Kill bubblewrap's child rather than bubblewrap, which then collects it and ends by itself."""
        _kill_children(self._process)


_NEXT_STEP = (
    "Run `python manage.py sandbox_probe`. Inside a container, bubblewrap needs user namespaces and an unmasked /proc."
)


def _kill_children(process: subprocess.Popen[bytes]) -> None:
    listing = f"/proc/{process.pid}/task/{process.pid}/children"
    try:
        with open(listing) as file:
            children = [int(child) for child in file.read().split()]
        for child in children:
            descriptor = os.pidfd_open(child)
            try:
                # The number may have gone to somebody else before the descriptor was opened.
                with open(listing) as file:
                    if str(child) in file.read().split():
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)
    except OSError:
        process.kill()


def _discard(spawning: asyncio.Future[Spawned]) -> None:
    """Drop a sandbox that nobody waits for any more: losing the channel ends it."""
    if spawning.cancelled() or spawning.exception() is not None:
        return
    spawned = spawning.result()
    spawned.channel.close()
    os.close(spawned.errors)
