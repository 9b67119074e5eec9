"""The container adapter of :class:`~apps.projects.workspace.Workspace`: one container a worktree, a fresh one a check.

The same server runs in it as in bubblewrap's sandbox and speaks the same protocol, over the container's standard input
and output; files are the host's own, reached without entering it. What the container may is in ``container_body``.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from apps.core.redaction import Redactor
from apps.projects.sandbox.bubblewrap import source_read
from apps.projects.sandbox.container_body import EXEC_SERVER, FORWARDER, PROXY_SOCKET, ContainerSpec
from apps.projects.sandbox.container_engine import ContainerSettings, Engine, EngineFacts, Image
from apps.projects.sandbox.container_errors import EngineUnsuitable
from apps.projects.sandbox.container_leftovers import (
    LABEL_PURPOSE,
    LABEL_SESSION,
    Worker,
    leftovers_remove,
    worker_get,
)
from apps.projects.sandbox.container_paths import EnginePaths
from apps.projects.sandbox.container_process import container_boot
from apps.projects.sandbox.files import FileTree
from apps.projects.sandbox.held import (
    SandboxWorkspace,
    command_environment,
    command_run_once,
    proxy_environment,
    watched_folders,
)
from apps.projects.sandbox.owners import folder_claim, sandbox_owner
from apps.projects.sandbox.rootfs import SANDBOX_PROGRAMS, Bind, account_files, workspace_entries
from apps.projects.sandbox.running import RunningSandbox
from apps.projects.sandbox.toolchains import ripgrep_program
from apps.projects.workspace import (
    SANDBOX_ATTACHMENTS,
    SANDBOX_ENVIRONMENT,
    CommandResult,
    SandboxLimits,
    WorkspaceError,
    Worktree,
)
from integrations.embedded.reach import runtime_root

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The user where this system has no numbers for users.
_SOME_USER = 1000
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: Named volumes can be shown in part since this version of Docker's API.
_SUBPATH_API = (1, 45)


@dataclass(frozen=True)
class _Request:
    """One sandbox, before the engine has been asked about anything."""

    binds: Sequence[Bind]
    limits: SandboxLimits
    owner: int | None
    watched: Sequence[str]
    labels: Mapping[str, str]
    once: bool = False
    proxy_socket: Path | None = None


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
    """As :func:`apps.projects.sandbox.adapter.workspace_open` promises."""
    if not worktree.path.is_dir():
        raise WorkspaceError(f"the worktree {worktree.path.name} is not there any more")
    owner = await asyncio.to_thread(folder_claim, worktree.path)
    beside: dict[str, FileTree] = {}
    if attachments is not None:
        extra_binds = (*extra_binds, Bind(attachments, SANDBOX_ATTACHMENTS))
        beside[SANDBOX_ATTACHMENTS] = FileTree(attachments)
    proxy = proxy_environment() if egress_socket is not None else {}
    async with AsyncExitStack() as resources:
        socket = await resources.enter_async_context(_proxy_shown(egress_socket)) if egress_socket else None
        request = _Request(
            binds=_binds(workspace_entries(worktree.path, writable=True, environment=environment, binds=extra_binds)),
            limits=limits,
            owner=owner,
            watched=watched_folders(writable=True, binds=extra_binds),
            labels={LABEL_PURPOSE: "workspace", LABEL_SESSION: worktree.path.name},
            proxy_socket=socket,
        )
        image = await _image()
        workspace = SandboxWorkspace(
            boot=lambda: _boot(request),
            files=FileTree(worktree.path, owner=owner, beside=beside),
            env=_command_environment(
                {**proxy, **(env or {}), **(secrets or {})}, image, environment=environment is not None
            ),
            redactor=Redactor(secrets or {}),
        )
        resources.push_async_callback(workspace.close)
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
    """As :func:`apps.projects.sandbox.adapter.sandbox_run` promises."""
    writable = [workspace] if workspace_writable else []
    writable += [bind.source for bind in binds if bind.writable and bind.source.is_dir()]
    owner = sandbox_owner(writable[0] if writable else workspace)
    if owner is not None:
        for folder in writable:
            await asyncio.to_thread(folder_claim, folder, owner=owner)
    image = await _image()
    proxy = proxy_environment() if egress_socket is not None else {}
    environment = any(bind.target == SANDBOX_ENVIRONMENT for bind in binds)
    async with AsyncExitStack() as resources:
        socket = await resources.enter_async_context(_proxy_shown(egress_socket)) if egress_socket else None
        request = _Request(
            binds=_binds(workspace_entries(workspace, writable=workspace_writable, environment=None, binds=binds)),
            limits=limits,
            owner=owner,
            watched=watched_folders(writable=workspace_writable, binds=binds),
            labels={LABEL_PURPOSE: "set-up" if egress_socket else "check"},
            once=True,
            proxy_socket=socket,
        )
        return await command_run_once(
            await _boot(request),
            command,
            env=_command_environment({**proxy, **(env or {}), **(secrets or {})}, image, environment=environment),
            timeout=timeout,
            max_output=max_output,
            on_output=on_output,
            redactor=Redactor(secrets or {}),
        )


def sandbox_python() -> str:
    """The image's own: environments are made and used in the same image."""
    return "python3"


def sandbox_shows_programs() -> bool:
    return False


async def sandbox_path(*, environment: bool) -> str:
    return _path(await _image(), environment=environment)


async def sandbox_identity() -> str:
    """The image's id: what was compiled in one is not for another."""
    return (await _image()).image_id.removeprefix("sha256:")[:16]


async def sandbox_describe() -> str:
    settings = ContainerSettings.read()
    runtime = f" with {settings.runtime}" if settings.runtime else ""
    return f"containers of {settings.image}{runtime} at {settings.engine}"


async def _image() -> Image:
    engine = Engine(ContainerSettings.read())
    try:
        return await engine.image_get(engine.settings.image)
    finally:
        await engine.close()


async def _boot(request: _Request) -> RunningSandbox:
    engine = Engine(ContainerSettings.read())
    try:
        facts = await engine.facts_get()
        image = await engine.image_get(engine.settings.image)
        worker = await asyncio.to_thread(worker_get, state_folder())
        await leftovers_remove(engine, worker=worker)
        spec = await asyncio.to_thread(_spec, request, engine.settings, facts, image, worker)
    except BaseException:
        await engine.close()
        raise
    return await container_boot(engine, spec)


def _spec(
    request: _Request, settings: ContainerSettings, facts: EngineFacts, image: Image, worker: Worker
) -> ContainerSpec:
    _engine_check(settings, facts)
    paths = _paths()
    user = request.owner if request.owner is not None else _own_user()
    group = request.owner if request.owner is not None else _own_group()
    lent = [
        Bind(paths.lend(source_read("exec_server.py"), name="exec_server.py"), EXEC_SERVER),
        *(
            Bind(paths.lend(content.encode(), name=Path(target).name), target)
            for target, content in account_files(user, group).items()
        ),
    ]
    ripgrep = ripgrep_program()
    if ripgrep is not None and _runs_in(image):
        lent.append(Bind(paths.lent(ripgrep), f"{SANDBOX_PROGRAMS}/bin/rg"))
    if request.proxy_socket is not None:
        lent.append(Bind(paths.lend(source_read("forwarder.py"), name="forwarder.py"), FORWARDER))
        lent.append(Bind(request.proxy_socket, PROXY_SOCKET))
    return ContainerSpec(
        image_id=image.image_id,
        user=f"{user}:{group}",
        mounts=[paths.mount(bind) for bind in (*request.binds, *lent)],
        limits=request.limits,
        labels={**worker.labels(), **request.labels},
        watched=request.watched,
        once=request.once,
        proxied=request.proxy_socket is not None,
        runtime=settings.runtime,
        cpus=settings.cpus,
        user_namespace=_user_namespace(facts),
    )


def _engine_check(settings: ContainerSettings, facts: EngineFacts) -> None:
    """EngineUnsuitable for an engine under which a promise would not hold."""
    if facts.rootless and not facts.podman:
        raise EngineUnsuitable(
            "Rootless Docker can't run a container as the user that the worktrees belong to",
            next_step="Use rootless Podman (its socket in ARCHON_CONTAINER_ENGINE), or Docker as the system's service.",
        )
    if not facts.seccomp and not settings.runtime:
        raise EngineUnsuitable(
            "The container engine doesn't filter system calls (no seccomp among its security options)",
            next_step="Switch it on in the engine, or name a runtime that keeps the kernel away (runsc) in "
            "ARCHON_CONTAINER_RUNTIME.",
        )
    volumes = any(there.startswith("volume:") for there in settings.paths.values())
    if volumes and (facts.podman or facts.api_version < _SUBPATH_API):
        raise EngineUnsuitable(
            "This container engine can't show a part of a named volume (Docker can since version 26)",
            next_step="Use a folder of the host's instead of a volume in ARCHON_CONTAINER_PATHS, or a newer Docker.",
        )


def _user_namespace(facts: EngineFacts) -> str:
    """How the container's user is the one that the files on the host belong to."""
    if facts.podman:
        return "keep-id" if facts.rootless else ""
    return "host" if facts.remapped_users else ""


@asynccontextmanager
async def _proxy_shown(socket: Path) -> AsyncIterator[Path]:
    """The proxy's socket where the engine can see it, usable for the container's user."""
    paths = _paths()
    if paths.sees(socket):
        socket.chmod(0o666)
        yield socket
        return
    sockets = state_folder() / "sockets"
    sockets.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=sockets) as folder:
        os.chmod(folder, 0o711)
        shown = Path(folder) / "proxy"

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await asyncio.open_unix_connection(str(socket))
                await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
            except OSError:
                # Either side went away; the other notices by the connection ending.
                return
            finally:
                writer.close()

        # By way of a descriptor: a socket's own path has at most 107 bytes.
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            server = await asyncio.start_unix_server(relay, f"/proc/self/fd/{handle}/proxy")
        finally:
            os.close(handle)
        async with server:
            shown.chmod(0o666)
            yield shown


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    finally:
        if sink.can_write_eof() and not sink.is_closing():
            sink.write_eof()


def _binds(entries: Sequence[object]) -> list[Bind]:
    return [entry for entry in entries if isinstance(entry, Bind)]


def _command_environment(env: Mapping[str, str], image: Image, *, environment: bool) -> dict[str, str]:
    """The image's own variables (where its toolchains are), ours over them, and the given ones over all.

    A given PATH may be this machine's: the image's programs are found in any case.
    """
    own_path = _path(image, environment=environment)
    ours = command_environment(env, path=own_path)
    path = ":".join(dict.fromkeys(f"{ours['PATH']}:{own_path}".split(":")))
    return {**image.environment, **ours, "PATH": path}


def _path(image: Image, *, environment: bool) -> str:
    folders = [f"{SANDBOX_ENVIRONMENT}/bin"] if environment else []
    return ":".join([*folders, f"{SANDBOX_PROGRAMS}/bin", image.environment.get("PATH") or _PATH])


def _runs_in(image: Image) -> bool:
    """Whether a program of this machine's runs in the image."""
    return sys.platform == "linux" and _MACHINES.get(image.machine, image.machine) == platform.machine()


def _own_user() -> int:
    return os.getuid() if hasattr(os, "getuid") else _SOME_USER


def _own_group() -> int:
    return os.getgid() if hasattr(os, "getgid") else _SOME_USER


def _paths() -> EnginePaths:
    return EnginePaths(ContainerSettings.read().paths, lending=state_folder() / "lent")


def state_folder() -> Path:
    """Where this adapter keeps what is its own, below ``ARCHON_HOME``."""
    from django.conf import settings

    return _state_folder_made(Path(settings.ARCHON_HOME))


@cache
def _state_folder_made(home: Path) -> Path:
    folder = runtime_root(home) / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    return folder
