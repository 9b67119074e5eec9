"""A bubblewrap that was started, as what holds a sandbox."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess

from apps.projects.sandbox.bubblewrap import SandboxSpec, Spawned, sandbox_spawn
from apps.projects.sandbox.running import RunningSandbox
from apps.projects.workspace import SandboxUnavailable

_NEXT_STEP = (
    "Run `python manage.py sandbox_probe`. Inside a container, bubblewrap needs user namespaces and an unmasked /proc."
)


async def bubblewrap_boot(spec: SandboxSpec) -> RunningSandbox:
    """Start one and wait until its server answers; SandboxUnavailable says why it doesn't."""
    spawning = asyncio.wrap_future(sandbox_spawn(spec))
    try:
        spawned = await asyncio.shield(spawning)
    except asyncio.CancelledError:
        spawning.add_done_callback(_discard)
        raise
    except OSError as error:
        raise SandboxUnavailable(f"The sandbox can't be started: {error}", next_step=_NEXT_STEP) from error
    reader, writer = await asyncio.open_unix_connection(sock=spawned.channel, limit=1 << 20)
    return await RunningSandbox.attach(BubblewrapProcess(spawned), reader, writer)


class BubblewrapProcess:
    """The outermost bubblewrap, whose end is the sandbox's."""

    def __init__(self, spawned: Spawned) -> None:
        self._process = spawned.process
        self._errors = spawned.errors
        loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(self._pidfd, self._on_exit)

    @property
    def exited(self) -> asyncio.Future[int]:
        return self._exited

    async def kill(self, *, at_once: bool = False) -> None:
        """Kill bubblewrap's child rather than bubblewrap, which then collects it and ends by itself."""
        if at_once:
            self._process.kill()
        else:
            _kill_children(self._process)

    async def discard(self) -> None:
        """Nothing is left of a process that has ended."""

    def failure(self) -> SandboxUnavailable:
        said = os.pread(self._errors, 4000, 0).decode(errors="replace").strip() if self._errors >= 0 else ""
        return SandboxUnavailable(
            f"The sandbox can't be started: {said or 'bubblewrap ended without a word'}", next_step=_NEXT_STEP
        )

    async def overrun(self) -> str:
        """The server inside keeps watch itself, and says so."""
        return ""

    def __del__(self) -> None:
        if self._errors >= 0:
            os.close(self._errors)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        if not self._exited.done():
            self._exited.set_result(status)


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
