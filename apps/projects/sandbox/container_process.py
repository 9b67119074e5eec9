"""A container that holds a sandbox: made, attached to, started, waited for, killed and removed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from typing import Any

import aiohttp
from aiodocker.exceptions import DockerError
from aiodocker.stream import Stream

from apps.core.errors import ApplicationError
from apps.projects.sandbox.container_body import ContainerSpec, container_body
from apps.projects.sandbox.container_engine import Engine
from apps.projects.sandbox.container_errors import ImageUnsuitable, engine_errors
from apps.projects.sandbox.running import RunningSandbox
from apps.projects.workspace import SandboxUnavailable

logger = logging.getLogger(__name__)

_STDERR = 2
_PIECE = 65536
_ERROR_BYTES = 4000
#: The status of a container of which the engine can't be asked any more.
_UNKNOWN = -1
#: Seconds between questions about a container that an engine lost the connection over.
_ASK_AGAIN = 0.5
#: Exit codes of a shell's for a program that can't be run, and that isn't there.
_NO_PROGRAM = (126, 127)

#: What is being tidied up: the loop itself keeps only weak references.
_tidying: set[asyncio.Task[None]] = set()


async def container_boot(engine: Engine, spec: ContainerSpec) -> RunningSandbox:
    """Make a container, start it and wait until its server answers. The engine's client is the sandbox's from now on.

    Nothing of it is left when this fails or is cancelled, however far it got.
    """
    # A name of our own: it can be removed even if the engine's answer to its making was never heard.
    process = ContainerProcess(engine, name=f"archon-{secrets.token_hex(8)}", image=engine.settings.image)
    try:
        reader, writer = await process.start(spec)
    except BaseException:
        await process.abandon()
        raise
    return await RunningSandbox.attach(process, reader, writer)


class ContainerProcess:
    """One container. Its end and its exit code are what the engine says of it."""

    def __init__(self, engine: Engine, *, name: str, image: str) -> None:
        self._engine = engine
        self._name = name
        self._image = image
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._errors = bytearray()
        self._state: dict[str, Any] = {}
        self._discarded = False

    async def start(self, spec: ContainerSpec) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Create, attach, start; returns the channel to process 1."""
        await self._engine.container_create(container_body(spec), name=self._name)
        stream = self._engine.container_attach(self._name)
        with engine_errors(self._engine.address, image=self._image):
            # Attached before it runs, so that no word of it is lost.
            await stream.__aenter__()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        inner_reader, inner_writer = await asyncio.open_connection(sock=theirs, limit=1 << 20)
        self._tasks = [
            asyncio.create_task(self._from_container(stream, inner_writer)),
            asyncio.create_task(self._to_container(stream, inner_reader)),
        ]
        try:
            await self._engine.container_start(self._name)
        except BaseException:
            writer.close()
            raise
        self._tasks.append(asyncio.create_task(self._wait()))
        return reader, writer

    @property
    def exited(self) -> asyncio.Future[int]:
        return self._exited

    async def kill(self, *, at_once: bool = False) -> None:
        """Have the engine kill process 1, and the kernel with it everything in its namespace."""
        try:
            await self._engine.container_kill(self._name)
        except ApplicationError as error:
            logger.warning("container %s could not be killed: %s", self._name, error.message)
        if at_once and not await self._told():
            # Nothing more can be done from here; it is removed as a leftover once the engine answers again.
            self._exited.set_result(_UNKNOWN)

    async def discard(self) -> None:
        """Remove the container, even if whoever waits for this is cancelled."""
        if not self._discarded:
            self._discarded = True
            task = asyncio.create_task(self._remove())
            _tidying.add(task)
            task.add_done_callback(_tidying.discard)
            await asyncio.shield(task)

    async def abandon(self) -> None:
        """Remove what may have been made."""
        if not self._exited.done():
            self._exited.set_result(_UNKNOWN)
        await self.discard()

    def failure(self) -> SandboxUnavailable:
        said = self._errors.decode(errors="replace").strip()
        reason = said or str(self._state.get("Error") or "") or "it ended without a word"
        if self._state.get("OOMKilled"):
            reason = "it ran out of memory before it was up"
        if self._state.get("ExitCode") in _NO_PROGRAM or "python3" in reason:
            return ImageUnsuitable(
                f"The image {self._image} can't run the sandbox's server: {reason}",
                next_step="It has to be a Linux image with python3 (3.9 or newer) and bash.",
            )
        return SandboxUnavailable(
            f"The sandbox's container can't be started: {reason}",
            next_step="Run `python manage.py sandbox_probe`; docs/how-to/containers.md lists what a container needs.",
        )

    async def overrun(self) -> str:
        """`memory` when the kernel killed something in the container for its limit."""
        if self._exited.done():
            return "memory" if self._state.get("OOMKilled") else ""
        with contextlib.suppress(ApplicationError):
            state = await self._engine.container_state(self._name)
            if state is not None and state.get("OOMKilled"):
                return "memory"
        return ""

    # --- what goes on meanwhile ---------------------------------------------------------------------------------------
    async def _from_container(self, stream: Stream, writer: asyncio.StreamWriter) -> None:
        try:
            while (message := await stream.read_out()) is not None:
                if message.stream == _STDERR:
                    self._errors += message.data[: _ERROR_BYTES - len(self._errors)]
                    continue
                writer.write(message.data)
                await writer.drain()
        except (aiohttp.ClientError, DockerError, ConnectionError):
            # The reader's end of file says the same.
            logger.info("the stream of container %s broke off", self._name)
        finally:
            writer.close()

    async def _to_container(self, stream: Stream, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(_PIECE):
                await stream.write_in(data)
        except (aiohttp.ClientError, ConnectionError, RuntimeError, AssertionError):
            # What the client raises for a stream that the engine closed; its other direction tells the sandbox so.
            logger.info("the stream to container %s broke off", self._name)
        finally:
            with contextlib.suppress(AssertionError):
                await stream.close()

    async def _wait(self) -> None:
        status: int | None = None
        while status is None:
            try:
                status = await self._engine.container_wait(self._name)
            except ApplicationError as error:
                logger.warning("waiting for container %s: %s", self._name, error.message)
                status = await self._status_asked()
        with contextlib.suppress(ApplicationError):
            self._state = await self._engine.container_state(self._name) or {}
        if not self._exited.done():
            self._exited.set_result(status)

    async def _status_asked(self) -> int | None:
        """What the engine says of it after the connection was lost: an end, or none yet."""
        await asyncio.sleep(_ASK_AGAIN)
        try:
            state = await self._engine.container_state(self._name)
        except ApplicationError:
            return None
        if state is None:
            return _UNKNOWN
        return None if state.get("Running") else int(state.get("ExitCode", _UNKNOWN))

    async def _told(self) -> bool:
        done, _ = await asyncio.wait([self._exited], timeout=3)
        return bool(done)

    async def _remove(self) -> None:
        try:
            await self._engine.container_remove(self._name)
        except ApplicationError as error:
            logger.warning("container %s could not be removed: %s", self._name, error.message)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._engine.close()
