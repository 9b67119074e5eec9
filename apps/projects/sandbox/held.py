"""What every sandbox adapter has in common: a worktree held open, and one command run to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from apps.core.redaction import NOTHING_SECRET, Redactor
from apps.projects.sandbox.bubblewrap import PROXY_PORT
from apps.projects.sandbox.channel import BackgroundCommand
from apps.projects.sandbox.files import FileTree
from apps.projects.sandbox.rootfs import SANDBOX_HOME, Bind
from apps.projects.sandbox.running import RunningSandbox
from apps.projects.workspace import (
    SANDBOX_WORKSPACE,
    BackgroundState,
    CommandResult,
    FileEntry,
    FileListing,
    OutputPage,
    WorkspaceError,
)

_RESTARTED = "[The sandbox had ended and was started anew: /tmp is empty again.]\n"


#: Commands that one workspace may have in the background at a time, and those whose output it keeps.
BACKGROUND_RUNNING = 8
BACKGROUND_KEPT = 16


class SandboxWorkspace:
    """A worktree whose commands run in one sandbox, started with the first of them.

    Commands run one after another, since two at a time would build and test in the same folder; what one leaves running
    is killed. Those that were asked to run in the background run beside them. File operations don't enter the sandbox
    and wait for nobody.
    """

    def __init__(
        self,
        *,
        boot: Callable[[], Awaitable[RunningSandbox]],
        files: FileTree,
        env: Mapping[str, str],
        redactor: Redactor = NOTHING_SECRET,
    ) -> None:
        """``redactor``: what is taken out of all that commands print."""
        self._boot = boot
        self._redactor = redactor
        self._files = files
        self._env = dict(env)
        self._sandbox: RunningSandbox | None = None
        self._background: dict[str, BackgroundCommand] = {}
        self._turn = asyncio.Lock()
        self._closed = False

    async def file_list(self, path: str = ".", *, depth: int = 1, limit: int = 500) -> FileListing:
        # Walking a large tree takes a while, and the loop has other sessions to serve.
        return await asyncio.to_thread(self._files.entries, path, depth=depth, limit=limit)

    async def file_read(self, path: str, *, max_bytes: int = 1_000_000) -> bytes:
        # Less work than handing it to a thread.
        return self._files.read(path, max_bytes=max_bytes)

    async def file_write(self, path: str, content: bytes) -> None:
        self._files.write(path, content)

    async def file_find(
        self, pattern: str, *, path: str = ".", newest_first: bool = False, limit: int = 200
    ) -> FileListing:
        return await asyncio.to_thread(self._files.find, pattern, path=path, newest_first=newest_first, limit=limit)

    async def file_entry(self, path: str) -> FileEntry:
        return self._files.entry(path)

    async def file_move(self, source: str, target: str) -> None:
        self._files.move(source, target)

    async def file_delete(self, path: str, *, folder: bool = False) -> None:
        # A folder may hold a lot.
        await asyncio.to_thread(self._files.delete, path, folder=folder)

    async def command_run(
        self,
        command: Sequence[str] | str,
        *,
        timeout: float,
        max_output: int = 100_000,
        on_output: Callable[[str], None] | None = None,
    ) -> CommandResult:
        argv = command_arguments(command)
        async with self._turn:
            sandbox, restarted = await self._ready()
            result = await sandbox.run(argv, env=self._env, timeout=timeout, max_output=max_output, on_output=on_output)
        return replace(result, output=_RESTARTED + result.output) if restarted else result

    async def background_start(
        self, command: Sequence[str] | str, *, name: str, timeout: float | None = None
    ) -> BackgroundState:
        argv = command_arguments(command)
        async with self._turn:
            if name in self._background:
                raise WorkspaceError(f"there is a background command {name} already")
            running = [known for known, started in self._background.items() if started.state.running]
            if len(running) >= BACKGROUND_RUNNING:
                raise WorkspaceError(
                    f"{len(running)} commands run in the background ({', '.join(running)}), as many as may: stop one"
                )
            sandbox, _ = await self._ready()
            started = await sandbox.channel.background_start(argv, name=name, env=self._env, timeout=timeout)
            self._background[name] = started
            over = [known for known, started in self._background.items() if not started.state.running]
            for known in over[: max(0, len(self._background) - BACKGROUND_KEPT)]:
                del self._background[known]
        return started.state

    async def background_wait(self, name: str, *, seconds: float) -> BackgroundState:
        command = self._known(name)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await command.over.wait()
        return command.state

    async def background_output(self, name: str, *, offset: int = 0, limit: int = 20_000) -> OutputPage:
        return self._known(name).output.page(offset=offset, limit=limit)

    async def background_stop(self, name: str) -> BackgroundState:
        command = self._known(name)
        if command.state.running and self._sandbox is not None:
            await self._sandbox.channel.background_stop(command)
        return command.state

    async def background_stop_all(self) -> tuple[str, ...]:
        running = tuple(name for name, command in self._background.items() if command.state.running)
        for name in running:
            await self.background_stop(name)
        self._background.clear()
        return running

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        async with self._turn:
            sandbox = self._sandbox
            if sandbox is None or not any(command.state.running for command in self._background.values()):
                yield
                return
            await sandbox.channel.hold()
            try:
                yield
            finally:
                await sandbox.channel.release()

    async def _ready(self) -> tuple[RunningSandbox, bool]:
        """The sandbox, started when there is none, and whether there was one before that has ended."""
        if self._closed:
            raise WorkspaceError("the workspace is closed")
        restarted = False
        if self._sandbox is None or not self._sandbox.alive:
            if self._sandbox is not None:
                restarted = True
                await self._sandbox.close()
                self._sandbox = None
            self._sandbox = await self._boot()
            self._sandbox.channel.redactor = self._redactor
        return self._sandbox, restarted

    def _known(self, name: str) -> BackgroundCommand:
        command = self._background.get(name)
        if command is None:
            raise WorkspaceError(f"there is no background command {name}")
        return command

    async def close(self) -> None:
        self._closed = True
        if self._sandbox is not None:
            await self._sandbox.close()
        self._files.close()


async def command_run_once(
    sandbox: RunningSandbox,
    command: Sequence[str] | str,
    *,
    env: Mapping[str, str],
    timeout: float,
    max_output: int,
    on_output: Callable[[str], None] | None,
    redactor: Redactor = NOTHING_SECRET,
) -> CommandResult:
    """Run a fresh sandbox's one command. A result that its end doesn't agree with is none (``killed="sandbox"``)."""
    sandbox.channel.redactor = redactor
    try:
        result = await sandbox.run(
            command_arguments(command), env=env, timeout=timeout, max_output=max_output, on_output=on_output
        )
        if result.exit_code is None:
            return result
        status = await sandbox.exit_status()
    finally:
        await sandbox.close()
    return result if status == result.exit_code else replace(result, exit_code=None, killed="sandbox")


def command_arguments(command: Sequence[str] | str) -> list[str]:
    """What a command is to the kernel: an argument vector as it is, a string through bash."""
    argv = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
    if not argv or not argv[0] or any("\0" in part for part in argv):
        raise WorkspaceError("a command is needed, without NUL characters")
    return argv


def command_environment(env: Mapping[str, str], *, path: str) -> dict[str, str]:
    """The variables of a command: ours, overridden by the given ones."""
    return {
        "PATH": path,
        "HOME": SANDBOX_HOME,
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": "/tmp",
        "PWD": SANDBOX_WORKSPACE,
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        # A repository without a .gitignore would otherwise have compiled files among its changes. Not by moving the
        # cache elsewhere: Python would then ignore what is compiled in the environment, too.
        "PYTHONDONTWRITEBYTECODE": "1",
        **env,
    }


def proxy_environment() -> dict[str, str]:
    """What leads programs to the proxy."""
    url = f"http://127.0.0.1:{PROXY_PORT}"
    variables = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"), url)
    return {**variables, "no_proxy": "localhost,127.0.0.1,::1", "NO_PROXY": "localhost,127.0.0.1,::1"}


def watched_folders(*, writable: bool, binds: Sequence[Bind]) -> list[str]:
    """The folders inside whose size counts towards the limit of disk."""
    own = [SANDBOX_WORKSPACE] if writable else []
    return own + [bind.target for bind in binds if bind.writable]
