"""The bubblewrap adapter of :class:`~apps.projects.workspace.Workspace`, and single commands in a fresh sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from apps.projects.sandbox.bubblewrap import PROXY_PORT, SandboxSpec
from apps.projects.sandbox.files import FileTree
from apps.projects.sandbox.owners import folder_claim, sandbox_owner
from apps.projects.sandbox.rootfs import SANDBOX_HOME, Bind, program_path, system_entries, workspace_entries
from apps.projects.sandbox.running import RunningSandbox
from apps.projects.workspace import (
    SANDBOX_ATTACHMENTS,
    SANDBOX_ENVIRONMENT,
    SANDBOX_WORKSPACE,
    CommandResult,
    FileListing,
    SandboxLimits,
    WorkspaceError,
    Worktree,
)

_RESTARTED = "[The sandbox had ended and was started anew: /tmp is empty again.]\n"


class BubblewrapWorkspace:
    """A worktree whose commands run in one bubblewrap sandbox, started with the first of them.

    Commands run one after another: what one leaves running is killed by killing everything in the sandbox, and two at a
    time would build and test in the same folder. File operations don't enter the sandbox and wait for nobody.
    """

    def __init__(self, *, spec: SandboxSpec, files: FileTree, env: Mapping[str, str]) -> None:
        self._spec = spec
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
                self._sandbox = await RunningSandbox.boot(self._spec)
            result = await self._sandbox.run(
                argv, env=self._env, timeout=timeout, max_output=max_output, on_output=on_output
            )
        return replace(result, output=_RESTARTED + result.output) if restarted else result

    async def close(self) -> None:
        self._closed = True
        if self._sandbox is not None:
            await self._sandbox.close()
        self._files.close()


@asynccontextmanager
async def workspace_open(
    worktree: Worktree,
    *,
    limits: SandboxLimits,
    environment: Path | None = None,
    env: Mapping[str, str] | None = None,
    extra_binds: Sequence[Bind] = (),
    attachments: Path | None = None,
) -> AsyncIterator[BubblewrapWorkspace]:
    """Hold a worktree open. ``environment`` is shown read-only at ``/env``, its ``bin`` first on the PATH.

    So is the folder ``attachments`` at ``/attachments``, for commands and for reading by file operations.

    Started by root, the worktree is given to an unprivileged user of its own first. WorkspaceError: it isn't there.
    """
    if not worktree.path.is_dir():
        raise WorkspaceError(f"the worktree {worktree.path.name} is not there any more")
    owner = await asyncio.to_thread(folder_claim, worktree.path)
    beside: dict[str, FileTree] = {}
    if attachments is not None:
        extra_binds = (*extra_binds, Bind(attachments, SANDBOX_ATTACHMENTS))
        beside[SANDBOX_ATTACHMENTS] = FileTree(attachments)
    entries = workspace_entries(worktree.path, writable=True, environment=environment, binds=extra_binds)
    spec = SandboxSpec(
        entries=[*system_entries(hidden=_hidden()), *entries],
        limits=limits,
        owner=owner,
        watched=_watched(writable=True, binds=extra_binds),
    )
    workspace = BubblewrapWorkspace(
        spec=spec,
        files=FileTree(worktree.path, owner=owner, beside=beside),
        env=command_environment(env or {}, environment=environment is not None),
    )
    try:
        yield workspace
    finally:
        await workspace.close()


async def sandbox_run(
    *,
    command: Sequence[str] | str,
    workspace: Path,
    limits: SandboxLimits,
    timeout: float,
    env: Mapping[str, str] | None = None,
    binds: Sequence[Bind] = (),
    workspace_writable: bool = True,
    egress_socket: Path | None = None,
    max_output: int = 200_000,
    on_output: Callable[[str], None] | None = None,
) -> CommandResult:
    """Run one command in a sandbox of its own, with a folder at ``/workspace``.

    The exit code is what the kernel says of bubblewrap's own end; a result that doesn't agree with what the server
    inside reported is no result (``killed="sandbox"``). With ``egress_socket``, a unix socket on which a proxy listens
    on the host, the sandbox has ``http_proxy`` and the like pointing at it. Started by root, writable folders are given
    to the sandbox's user first. Raises SandboxUnavailable when no sandbox can be started.
    """
    writable = [workspace] if workspace_writable else []
    writable += [bind.source for bind in binds if bind.writable and bind.source.is_dir()]
    owner = sandbox_owner(writable[0] if writable else workspace)
    if owner is not None:
        for folder in writable:
            await asyncio.to_thread(folder_claim, folder, owner=owner)
        if egress_socket is not None:
            # Whoever may reach the folder that it is in may use it.
            egress_socket.chmod(0o666)
    entries = workspace_entries(workspace, writable=workspace_writable, environment=None, binds=binds)
    spec = SandboxSpec(
        entries=[*system_entries(hidden=_hidden()), *entries],
        limits=limits,
        owner=owner,
        watched=_watched(writable=workspace_writable, binds=binds),
        once=True,
        proxy_socket=egress_socket,
    )
    proxy = _proxy_environment() if egress_socket is not None else {}
    environment = any(bind.target == SANDBOX_ENVIRONMENT for bind in binds)
    sandbox = await RunningSandbox.boot(spec)
    try:
        result = await sandbox.run(
            command_arguments(command),
            env=command_environment({**proxy, **(env or {})}, environment=environment),
            timeout=timeout,
            max_output=max_output,
            on_output=on_output,
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


def command_environment(env: Mapping[str, str], *, environment: bool) -> dict[str, str]:
    """The variables of a command: ours, overridden by the given ones."""
    return {
        "PATH": program_path(environment=environment),
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


def _proxy_environment() -> dict[str, str]:
    url = f"http://127.0.0.1:{PROXY_PORT}"
    variables = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"), url)
    return {**variables, "no_proxy": "localhost,127.0.0.1,::1", "NO_PROXY": "localhost,127.0.0.1,::1"}


def _watched(*, writable: bool, binds: Sequence[Bind]) -> list[str]:
    own = [SANDBOX_WORKSPACE] if writable else []
    return own + [bind.target for bind in binds if bind.writable]


def _hidden() -> list[Path]:
    # The sandbox is the one part of the app that the probe and the tests use without a configured server.
    from django.conf import settings

    return [Path(settings.BASE_DIR), Path(settings.ARCHON_HOME)]
