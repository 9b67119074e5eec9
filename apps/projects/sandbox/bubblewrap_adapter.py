"""The bubblewrap adapter of :class:`~apps.projects.workspace.Workspace`, and single commands in a fresh sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from apps.core.redaction import Redactor
from apps.projects.sandbox.bubblewrap import SandboxSpec, bubblewrap_program
from apps.projects.sandbox.bubblewrap_process import bubblewrap_boot
from apps.projects.sandbox.files import FileTree
from apps.projects.sandbox.held import (
    SandboxWorkspace,
    command_environment,
    command_run_once,
    proxy_environment,
    watched_folders,
)
from apps.projects.sandbox.owners import folder_claim, sandbox_owner
from apps.projects.sandbox.rootfs import Bind, program_path, system_entries, workspace_entries
from apps.projects.sandbox.toolchains import python_program
from apps.projects.workspace import (
    SANDBOX_ATTACHMENTS,
    SANDBOX_ENVIRONMENT,
    CommandResult,
    SandboxLimits,
    WorkspaceError,
    Worktree,
)


@asynccontextmanager
async def workspace_open(
    worktree: Worktree,
    *,
    limits: SandboxLimits,
    environment: Path | None = None,
    env: Mapping[str, str] | None = None,
    extra_binds: Sequence[Bind] = (),
    attachments: Path | None = None,
    egress_socket: Path | None = None,
    secrets: Mapping[str, str] | None = None,
) -> AsyncIterator[SandboxWorkspace]:
    """Hold a worktree open. ``environment`` is shown read-only at ``/env``, its ``bin`` first on the PATH.

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
        watched=watched_folders(writable=True, binds=extra_binds),
        proxy_socket=egress_socket,
    )
    proxy = proxy_environment() if egress_socket is not None else {}
    if owner is not None and egress_socket is not None:
        egress_socket.chmod(0o666)
    workspace = SandboxWorkspace(
        boot=lambda: bubblewrap_boot(spec),
        files=FileTree(worktree.path, owner=owner, beside=beside),
        env=command_environment(
            {**proxy, **(env or {}), **(secrets or {})}, path=program_path(environment=environment is not None)
        ),
        redactor=Redactor(secrets or {}),
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
    secrets: Mapping[str, str] | None = None,
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
        watched=watched_folders(writable=workspace_writable, binds=binds),
        once=True,
        proxy_socket=egress_socket,
    )
    proxy = proxy_environment() if egress_socket is not None else {}
    path = program_path(environment=any(bind.target == SANDBOX_ENVIRONMENT for bind in binds))
    return await command_run_once(
        await bubblewrap_boot(spec),
        command,
        env=command_environment({**proxy, **(env or {}), **(secrets or {})}, path=path),
        timeout=timeout,
        max_output=max_output,
        on_output=on_output,
        redactor=Redactor(secrets or {}),
    )


def _hidden() -> list[Path]:
    # The sandbox is the one part of the app that the probe and the tests use without a configured server.
    from django.conf import settings

    return [Path(settings.BASE_DIR), Path(settings.ARCHON_HOME)]


def sandbox_python() -> str:
    return str(python_program())


def sandbox_shows_programs() -> bool:
    return True


async def sandbox_path(*, environment: bool) -> str:
    return program_path(environment=environment)


async def sandbox_identity() -> str:
    return ""


async def sandbox_describe() -> str:
    return str(bubblewrap_program())
