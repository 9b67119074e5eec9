"""The choice of sandbox: ``ARCHON_SANDBOX`` names what keeps the promise of :mod:`apps.projects.workspace`.

There is no third: where the chosen one can't be had, commands are refused.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol, cast

from apps.projects.sandbox.held import SandboxWorkspace
from apps.projects.sandbox.rootfs import Bind
from apps.projects.workspace import CommandResult, SandboxLimits, SandboxUnavailable, Worktree

_MODULES = {
    "bubblewrap": "apps.projects.sandbox.bubblewrap_adapter",
    "container": "apps.projects.sandbox.container",
}


class SandboxAdapter(Protocol):
    """A module that keeps the promises of the functions below, which have the same names."""

    workspace_open: Callable[..., AbstractAsyncContextManager[SandboxWorkspace]]

    async def sandbox_run(
        self,
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
    ) -> CommandResult: ...

    def sandbox_python(self) -> str: ...

    def sandbox_shows_programs(self) -> bool: ...

    async def sandbox_path(self, *, environment: bool) -> str: ...

    async def sandbox_identity(self) -> str: ...

    async def sandbox_describe(self) -> str: ...


def adapter_name() -> str:
    """What ``ARCHON_SANDBOX`` chose."""
    from django.conf import settings

    return str(settings.ARCHON_SANDBOX)


def adapter_get() -> SandboxAdapter:
    """The chosen adapter; SandboxUnavailable for one that there isn't."""
    name = adapter_name()
    if name not in _MODULES:
        raise SandboxUnavailable(
            f"ARCHON_SANDBOX is {name!r}, which is no sandbox",
            next_step=f"Set it to one of {', '.join(_MODULES)}.",
        )
    # Imported when it is chosen: an engine's client takes a while to import, and most servers need none.
    return cast(SandboxAdapter, importlib.import_module(_MODULES[name]))


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

    So is the folder ``attachments`` at ``/attachments``, for commands and for reading by file operations. What commands
    reach of the network is what ``egress_socket`` leads to, as with :func:`sandbox_run`. ``secrets`` are variables of
    commands, whose values are taken out of all that these print.

    Started by root, the worktree is given to an unprivileged user of its own first. WorkspaceError: it isn't there.
    """
    async with adapter_get().workspace_open(
        worktree,
        limits=limits,
        environment=environment,
        env=env,
        extra_binds=extra_binds,
        attachments=attachments,
        egress_socket=egress_socket,
        secrets=secrets,
    ) as workspace:
        yield workspace


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

    The exit code is what the kernel or the engine says of the sandbox's own end; a result that doesn't agree with what
    the server inside reported is no result (``killed="sandbox"``). With ``egress_socket``, a unix socket on which a
    proxy listens on the host, the sandbox has ``http_proxy`` and the like pointing at it. ``secrets`` are variables
    whose values are taken out of all that is printed. Started by root, writable folders are given to the sandbox's user
    first. Raises SandboxUnavailable when no sandbox can be started.
    """
    return await adapter_get().sandbox_run(
        command=command,
        workspace=workspace,
        limits=limits,
        timeout=timeout,
        env=env,
        binds=binds,
        workspace_writable=workspace_writable,
        egress_socket=egress_socket,
        secrets=secrets,
        max_output=max_output,
        on_output=on_output,
    )


def sandbox_python() -> str:
    """The interpreter that environments are made with, as it is named in a sandbox."""
    return adapter_get().sandbox_python()


def sandbox_shows_programs() -> bool:
    """Whether sandboxes have this machine's programs, rather than an image's."""
    return adapter_get().sandbox_shows_programs()


async def sandbox_path(*, environment: bool) -> str:
    """The PATH of commands in a sandbox, for those who put something into it."""
    return await adapter_get().sandbox_path(environment=environment)


async def sandbox_identity() -> str:
    """What environments depend on besides their files: one made in one image doesn't fit another. Empty: nothing."""
    return await adapter_get().sandbox_identity()


async def sandbox_describe() -> str:
    """What keeps the sandboxes, for people: a program, or an engine and its image."""
    return await adapter_get().sandbox_describe()
