"""The host's side of the channel to the server in a sandbox, however that sandbox is made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.core.kill_points import kill_point
from apps.core.redaction import NOTHING_SECRET, Redactor
from apps.projects.sandbox.kept_output import KeptOutput
from apps.projects.sandbox.output import OutputBuffer
from apps.projects.workspace import SANDBOX_WORKSPACE, BackgroundState, CommandResult

_HEADER = struct.Struct("!IB")
_NUMBER = struct.Struct("!I")
_JSON, _OUTPUT, _BACKGROUND = 0, 1, 2
#: Longest after its deadline that a call may take to be over, and longest that a cancelled one may.
GRACE_SECONDS = 10.0
CLOSE_SECONDS = 3.0
#: Bytes of each background command's output that are kept.
KEPT_BYTES = 1 << 20


@dataclass(frozen=True)
class _Done:
    exit_code: int | None
    killed: str


class _Call:
    """The command that is running: what it prints, and how it ended."""

    def __init__(self, number: int, output: OutputBuffer, redactor: Redactor) -> None:
        self.number = number
        self._output = output
        self._redacted = redactor.stream()
        self._failed = False
        loop = asyncio.get_running_loop()
        #: Raises what the listener raised.
        self.result: asyncio.Future[_Done] = loop.create_future()
        self.over = asyncio.Event()

    def add(self, data: bytes) -> None:
        self._pass(self._redacted.feed(data))

    def _pass(self, data: bytes) -> None:
        if self._failed or not data:
            return
        try:
            self._output.add(data)
        except Exception as error:  # noqa: BLE001 - the listener's, for whoever runs the command
            self._failed = True
            if not self.result.done():
                self.result.set_exception(error)

    def end(self, done: _Done) -> None:
        self._pass(self._redacted.flush())
        if not self.result.done():
            self.result.set_result(done)
        self.over.set()


class BackgroundCommand:
    """A command that runs beside others."""

    def __init__(self, name: str, redactor: Redactor = NOTHING_SECRET) -> None:
        self.name = name
        self.output = KeptOutput(limit=KEPT_BYTES)
        self._redacted = redactor.stream()
        self.over = asyncio.Event()
        self._started = time.monotonic()
        self._seconds = 0.0
        self._done: _Done | None = None

    def add(self, data: bytes) -> None:
        self.output.add(self._redacted.feed(data))

    def end(self, done: _Done) -> None:
        self.output.add(self._redacted.flush())
        if self._done is None:
            self._done = done
            self._seconds = time.monotonic() - self._started
        self.over.set()

    @property
    def state(self) -> BackgroundState:
        done = self._done
        return BackgroundState(
            name=self.name,
            running=done is None,
            exit_code=done.exit_code if done else None,
            killed=done.killed if done else "",
            seconds=self._seconds if done else time.monotonic() - self._started,
            output_bytes=self.output.total,
        )


class ExecChannel:
    """Speaks to one server; belongs to the event loop that made it. Runs one command at a time, others beside it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, end: Callable[[], Awaitable[None]]
    ) -> None:
        """``end``: end the sandbox and all in it, and wait for that; for when the server doesn't do as it is told."""
        self._reader = reader
        self._writer = writer
        self._end = end
        self._numbers = 0
        self._call: _Call | None = None
        self._background: dict[int, BackgroundCommand] = {}
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._reading: asyncio.Task[None] | None = None
        #: Takes out of all output what must not leave the sandbox.
        self.redactor = NOTHING_SECRET

    async def ready(self) -> None:
        """Wait for the server's first word; IncompleteReadError or ConnectionError when it ends instead."""
        await self._frame()
        self._reading = asyncio.get_running_loop().create_task(self._read(), name="sandbox-channel")

    @property
    def alive(self) -> bool:
        return self._reading is not None and not self._reading.done() and not self._reader.at_eof()

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
        output = OutputBuffer(limit=max_output, listener=on_output)
        call = self._call = _Call(self._next(), output, self.redactor)
        started = time.monotonic()
        try:
            await self._request(call.number, argv=argv, env=env, timeout=timeout)
            kill_point("command.running")
            # The server inside keeps the time; the host only doesn't rely on it.
            limit = asyncio.timeout(timeout + GRACE_SECONDS)
            try:
                async with limit:
                    done = await asyncio.shield(call.result)
            except TimeoutError:
                if not limit.expired():  # the listener's own
                    raise
                await self._end()
                done = _Done(None, "timeout")
        except BaseException:
            await self._abandon(call)
            raise
        finally:
            self._call = None
        return CommandResult(
            exit_code=done.exit_code,
            output=output.text(),
            truncated=output.truncated,
            seconds=time.monotonic() - started,
            killed=done.killed,
        )

    async def background_start(
        self, argv: Sequence[str], *, name: str, env: Mapping[str, str], timeout: float | None
    ) -> BackgroundCommand:
        """Start a command beside the others; without a timeout it runs until it ends or is stopped."""
        command = BackgroundCommand(name, self.redactor)
        number = self._next()
        self._background[number] = command
        try:
            await self._request(number, argv=argv, env=env, timeout=timeout, background=True)
        except BaseException:
            await self.background_stop(command)
            raise
        if not self.alive:
            command.end(_Done(None, "sandbox"))
        return command

    async def background_stop(self, command: BackgroundCommand) -> None:
        """Kill it and what it started."""
        for number, known in list(self._background.items()):
            if known is command:
                with contextlib.suppress(ConnectionError):
                    await self._send({"op": "cancel", "id": number})
                try:
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await command.over.wait()
                except TimeoutError:
                    await self._end()
                    command.end(_Done(None, "stopped"))

    async def hold(self) -> None:
        """Stop everything in the sandbox until ``release``; no command runs meanwhile."""
        await self._ask("hold", "held")

    async def release(self) -> None:
        await self._ask("release", "released")

    async def close(self) -> None:
        """Leave: without a host at the other end the server exits, and the kernel takes the rest of its namespace."""
        self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._broken()
        # Whoever made this holds it: without the way back both go at once.
        self._end = _nothing

    # --- frames -------------------------------------------------------------------------------------------------------
    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _request(
        self,
        number: int,
        *,
        argv: Sequence[str],
        env: Mapping[str, str],
        timeout: float | None,
        background: bool = False,
    ) -> None:
        request = {"id": number, "argv": list(argv), "env": dict(env), "cwd": SANDBOX_WORKSPACE, "timeout": timeout}
        if not self.alive:
            self._broken()
        with contextlib.suppress(ConnectionError):  # the answer tells that it is gone
            await self._send({"op": "run", **request, "background": background})

    async def _ask(self, operation: str, answer: str) -> None:
        future = self._answers[answer] = asyncio.get_running_loop().create_future()
        try:
            if not self.alive:
                return
            with contextlib.suppress(ConnectionError):
                await self._send({"op": operation})
            async with asyncio.timeout(GRACE_SECONDS):
                await future
        except TimeoutError:
            await self._end()
        finally:
            self._answers.pop(answer, None)

    async def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self._writer.write(_HEADER.pack(len(body), _JSON) + body)
        await self._writer.drain()

    async def _frame(self) -> tuple[int, bytes]:
        length, kind = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        return kind, await self._reader.readexactly(length)

    async def _read(self) -> None:
        """Hand on what the server says, until it says no more."""
        try:
            while True:
                kind, body = await self._frame()
                if kind == _OUTPUT:
                    if self._call is not None:
                        self._call.add(body)
                elif kind == _BACKGROUND:
                    (number,) = _NUMBER.unpack_from(body)
                    command = self._background.get(number)
                    if command is not None:
                        command.add(body[_NUMBER.size :])
                else:
                    self._hear(json.loads(body))
        except (asyncio.IncompleteReadError, ConnectionError):
            self._broken()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if message["event"] != "done":
            future = self._answers.get(message["event"])
            if future is not None and not future.done():
                future.set_result(None)
            return
        done = _Done(message["exit"], message["killed"])
        command = self._background.pop(message["id"], None)
        if command is not None:
            command.end(done)
        elif self._call is not None and self._call.number == message["id"]:
            self._call.end(done)

    def _broken(self) -> None:
        """Nothing more will be heard: what ran is dead, or soon will be."""
        gone = _Done(None, "sandbox")
        if self._call is not None:
            self._call.end(gone)
        for command in self._background.values():
            command.end(gone)
        self._background.clear()
        for future in self._answers.values():
            if not future.done():
                future.set_result(None)

    async def _abandon(self, call: _Call) -> None:
        """Have a call killed, and be sure of it, even if cancelled once more meanwhile."""
        with contextlib.suppress(ConnectionError):
            await self._send({"op": "cancel", "id": call.number})
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await call.over.wait()
        except BaseException as error:
            await self._end()
            if not isinstance(error, Exception):
                raise


async def _nothing() -> None:
    """The sandbox has ended already."""
