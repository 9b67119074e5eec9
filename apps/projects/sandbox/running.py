"""A sandbox that runs: the host's side of the channel to the server in it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

from apps.projects.sandbox.bubblewrap import SandboxSpec, Spawned, sandbox_spawn
from apps.projects.sandbox.channel import CLOSE_SECONDS, ExecChannel
from apps.projects.workspace import CommandResult, SandboxUnavailable

#: Longest that a boot may take on a busy machine.
_BOOT_SECONDS = 60.0


class RunningSandbox:
    """One bubblewrap and the server in it. Belongs to the event loop that booted it; runs one command at a time."""

    def __init__(self, spawned: Spawned, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = spawned.process
        self._errors = spawned.errors
        #: What speaks to the server inside.
        self.channel = ExecChannel(reader, writer, end=self._end)
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
                await sandbox.channel.ready()
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
        return not (self._closing or self._exited.done()) and self.channel.alive

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
        return await self.channel.run(argv, env=env, timeout=timeout, max_output=max_output, on_output=on_output)

    async def exit_status(self) -> int:
        """Wait until it has ended, and return what the kernel says of bubblewrap's end."""
        return await asyncio.shield(self._exited)

    async def close(self) -> None:
        """End it and everything in it, and wait for that."""
        if self._closing:
            await self.exit_status()
            return
        self._closing = True
        await self.channel.close()
        if not await self._ended(CLOSE_SECONDS):
            self._kill_inside()
            if not await self._ended(CLOSE_SECONDS):
                self._process.kill()
                await self.exit_status()

    def error_text(self) -> str:
        """What bubblewrap or the server complained of."""
        return os.pread(self._errors, 4000, 0).decode(errors="replace").strip() if self._errors >= 0 else ""

    def __del__(self) -> None:
        if self._errors >= 0:
            os.close(self._errors)

    async def _end(self) -> None:
        self._kill_inside()
        await self.close()

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
