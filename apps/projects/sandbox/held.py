"""What every sandbox adapter has in common: a worktree held open, and one command run to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from apps.projects.sandbox.bubblewrap import PROXY_PORT
from apps.projects.sandbox.files import FileTree
from apps.projects.sandbox.rootfs import SANDBOX_HOME, Bind
from apps.projects.sandbox.running import RunningSandbox
from apps.projects.workspace import SANDBOX_WORKSPACE, CommandResult, FileListing, WorkspaceError

_RESTARTED = "[The sandbox had ended and was started anew: /tmp is empty again.]\n"


class SandboxWorkspace:
    """A worktree whose commands run in one sandbox, started with the first of them.

    Commands run one after another: what one leaves running is killed by killing everything in the sandbox, and two at a
    time would build and test in the same folder. File operations don't enter the sandbox and wait for nobody.
    """

    def __init__(
        self, *, boot: Callable[[], Awaitable[RunningSandbox]], files: FileTree, env: Mapping[str, str]
    ) -> None:
        self._boot = boot
        self._files = files
        self._env = dict(env)
        self._sandbox: RunningSandbox | None = None
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
            if self._closed:
                raise WorkspaceError("the workspace is closed")
            restarted = False
            if self._sandbox is None or not self._sandbox.alive:
                if self._sandbox is not None:
                    restarted = True
                    await self._sandbox.close()
                    self._sandbox = None
                self._sandbox = await self._boot()
            result = await self._sandbox.run(
                argv, env=self._env, timeout=timeout, max_output=max_output, on_output=on_output
            )
        return replace(result, output=_RESTARTED + result.output) if restarted else result

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
) -> CommandResult:
    """Run a fresh sandbox's one command. A result that its end doesn't agree with is none (``killed="sandbox"``)."""
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
