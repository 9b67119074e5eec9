"""Making a project's environment: once for each key, in a sandbox that reaches the package registries alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.core.errors import DiskFull, Unavailable
from apps.projects.egress import egress_open
from apps.projects.environment.sources import TOOLS, package_sources_read
from apps.projects.environment.types import (
    NO_ENVIRONMENT,
    Environment,
    EnvironmentSetupFailed,
    EnvironmentSpec,
)
from apps.projects.repository import commit_is_imported, commit_paths
from apps.projects.sandbox import Bind, sandbox_identity, sandbox_path, sandbox_run
from apps.projects.sandbox.owners import sandbox_owner
from apps.projects.workspace import SANDBOX_ENVIRONMENT, SandboxLimits
from apps.projects.worktree import checkout_export, tree_delete, tree_own
from integrations.embedded.reach import runtime_root
from integrations.posix import fcntl

_CACHE = f"{TOOLS}/cache"
_LOG_BYTES = 20_000
#: How the end of a log looks when a program wanted an answer.
_ASKS = re.compile(
    r"EOF(Error)?:? ?(when|while) reading|\[[yY]/[nN]\]|\((y|yes)/(n|no)(/\[fingerprint\])?\)|\bOk to proceed\b|"
    r"(password|passphrase|username)( for [^\n]*)?:\s*$|is not a (tty|terminal)|"
    r"stdin is not|end of file on stdin|"
    # What comes before our own note: a prompt, which ends its line with a space; or that bash itself was asked to read.
    r"[:?] (\([^()\n]*\) ?|\[[^\[\]\n]*\] ?)?\narchon: failed: |^archon: failed: read\b",
    re.IGNORECASE | re.MULTILINE,
)
_ASKED_WITHIN = 2_000
#: Goes before a script: which command failed is often told by nothing that is printed.
_TELL_FAILED = r"""trap 'printf "\narchon: failed: %.300s\n" "$BASH_COMMAND" >&2' ERR; """
_GENERATED_BYTES = 512 * 1024 * 1024
_RECORD = "record.json"
#: What a set-up leaves in the checkout without anyone needing it later.
_LEFTOVERS = {".git", "__pycache__", ".pytest_cache", "build", ".eggs"}


async def environment_prepare(
    *,
    project_id: object,
    commit: str,
    spec: EnvironmentSpec,
    secrets: Mapping[str, str] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Environment:
    """The environment of that specification, made now or found; whoever asks for the same meanwhile waits for it.

    ``on_progress`` is told what the set-up prints. What was set up with ``secrets`` is found by sessions that name the
    same ones alone. Raises EnvironmentSetupFailed; nothing of a failed set-up is kept.
    """
    if not spec.setup_command:
        return NO_ENVIRONMENT
    started = time.monotonic()
    folder = await asyncio.to_thread(_project_folder, project_id)
    # What was made in one image is not for another.
    named = hashlib.sha256(" ".join(sorted(secrets)).encode()).hexdigest()[:12] if secrets else ""
    name = ".".join(part for part in (spec.key, await sandbox_identity(), named) if part)
    async with _locked(folder / f".{name}.lock"):
        found = _environment_load(folder / name, spec, cached=True, seconds=time.monotonic() - started)
        if found is not None:
            return found
        # The lock is ours, so these are of a process that died.
        for leftover in folder.glob(f".{name}-*"):
            await asyncio.to_thread(tree_delete, leftover)
        fresh = folder / f".{name}-new"
        try:
            log = await _environment_make(project_id, commit, spec, fresh, secrets, on_progress)
            seconds = time.monotonic() - started
            record = {"log": log, "seconds": round(seconds, 1), "description": spec.description}
            (fresh / _RECORD).write_text(json.dumps(record))
            tree_delete(folder / name)
            fresh.rename(folder / name)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("the environment could not be written") from error
            raise Unavailable(
                f"The environment could not be written: {error.strerror or error}",
                next_step="See to the folder `environments` under ARCHON_HOME and try again.",
            ) from error
        finally:
            await asyncio.to_thread(tree_delete, fresh)
    made = _environment_load(folder / name, spec, cached=False, seconds=seconds)
    assert made is not None
    return made


def environment_apply(*, environment: Environment, checkout: Path) -> tuple[str, ...]:
    """Put the files that the set-up made (compiled modules, version files) into a new checkout, where it has none.

    Returns their paths: what of a worktree ``worktree_exclude`` has to be told. Only for a checkout that no agent has
    touched yet.
    """
    if environment.generated is None:
        return ()
    applied = _tree_copy(environment.generated, checkout)
    if applied:
        tree_own(checkout)
    return applied


def environments_delete(*, project_id: object) -> None:
    """Remove all that was set up for a project."""
    tree_delete(_project_folder(project_id))


async def _environment_make(
    project_id: object,
    commit: str,
    spec: EnvironmentSpec,
    fresh: Path,
    secrets: Mapping[str, str] | None,
    on_progress: Callable[[str], None] | None,
) -> str:
    """Run the script; ``fresh`` then holds ``env`` and ``generated``. Returns what was printed."""
    sources = await asyncio.to_thread(package_sources_read, ecosystem=spec.ecosystem)
    trusted = await asyncio.to_thread(commit_is_imported, project_id=project_id, commit=commit)
    fresh.mkdir(parents=True, mode=0o711)
    workspace, target = fresh / "workspace", fresh / "env"
    # Set-ups run the repository's own code, which could plant things in a cache of downloads. So each project has its
    # own, and what an agent's commit runs gets one that is thrown away.
    cache = fresh.parent / ".downloads" if trusted else fresh / "downloads"
    for folder in (cache, target):
        folder.mkdir(exist_ok=True)
    owner = sandbox_owner(cache)
    await asyncio.to_thread(checkout_export, project_id=project_id, commit=commit, destination=workspace, depth=None)
    for folder in (workspace, target, cache):
        if owner is None or folder.stat().st_uid != owner:
            await asyncio.to_thread(tree_own, folder, owner)
    environment = {
        **sources.environment,
        **spec.variables,
        "UV_CACHE_DIR": f"{_CACHE}/uv",
        "PIP_CACHE_DIR": f"{_CACHE}/pip",
        "npm_config_cache": f"{_CACHE}/npm",
        "UV_PYTHON": f"{SANDBOX_ENVIRONMENT}/bin/python",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",
        "UV_LINK_MODE": "copy",
        "UV_COMPILE_BYTECODE": "1",
        "UV_NO_PROGRESS": "1",
        "UV_HTTP_TIMEOUT": "120",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "VIRTUAL_ENV": SANDBOX_ENVIRONMENT,
        "PATH": (await sandbox_path(environment=True)).replace(":", f":{TOOLS}/bin:", 1),
        "CI": "1",
        # The sandbox keeps bytecode out of worktrees; here it belongs beside the modules.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    binds = [
        Bind(source=target, target=SANDBOX_ENVIRONMENT, writable=True),
        Bind(source=cache, target=_CACHE, writable=True),
        Bind(source=_uv_program(), target=f"{TOOLS}/bin/uv"),
        *sources.binds,
    ]
    async with egress_open(hosts=sources.hosts, upstream_proxy=sources.upstream_proxy) as egress:
        result = await sandbox_run(
            command=["bash", "-ec", _TELL_FAILED + spec.setup_command],
            workspace=workspace,
            limits=SandboxLimits(
                memory_mb=settings.ARCHON_SANDBOX_MEMORY_MB,
                disk_mb=settings.ARCHON_SANDBOX_DISK_MB,
                processes=settings.ARCHON_SANDBOX_PROCESSES,
            ),
            timeout=settings.ARCHON_SETUP_SECONDS,
            env=environment,
            binds=binds,
            egress_socket=egress.socket,
            secrets=secrets,
            max_output=_LOG_BYTES * 4,
            on_output=on_progress,
        )
    notes = [f"host {name} is not a configured registry" for name in egress.refused] + list(sources.notes)
    log = result.output[-_LOG_BYTES:] + "".join(f"\narchon: {note}" for note in notes)
    if result.exit_code != 0:
        raise _failure(result.exit_code, result.killed, log, egress.refused)
    await asyncio.to_thread(_results_take, project_id, commit, fresh)
    return log


def _failure(exit_code: int | None, killed: str, log: str, refused: list[str]) -> EnvironmentSetupFailed:
    if killed == "timeout":
        happened = f"did not end within {settings.ARCHON_SETUP_SECONDS} s"
        next_step = "Give the project a set-up command that ends, or have the operator raise ARCHON_SETUP_SECONDS."
    elif killed:
        happened = f"went over the sandbox's limit of {killed}"
        smaller = "that prints less" if killed == "output" else "that needs less"
        next_step = f"Give the project a set-up command {smaller}, or have the operator raise the sandbox's limits."
    elif _ASKS.search(log[-_ASKED_WITHIN:]):
        happened = "asked a question, and there is nobody to answer: its standard input is closed. It failed"
        next_step = "Give the project a set-up command that asks nothing (--yes, --no-input, or `yes | …`)."
    elif refused:
        happened = f"failed; host {refused[0]} is not a configured registry"
        next_step = "Have the operator configure the registry for pip on this host, or change the set-up command."
    else:
        happened = f"failed with exit code {exit_code}"
        next_step = "Read the log, then give the project a set-up command of its own (setup_command)."
    tail = "\n".join(log.strip().splitlines()[-15:]) or "Nothing was printed."
    return EnvironmentSetupFailed(
        f"The set-up of the project's environment {happened}:\n{tail}", next_step=next_step, log=log
    )


def _results_take(project_id: object, commit: str, fresh: Path) -> None:
    """Keep the environment, and what the set-up made in the checkout; give both to the server."""
    committed = set(commit_paths(project_id=project_id, commit=commit))
    _tree_copy(fresh / "workspace", fresh / "generated", without=committed, limit=_GENERATED_BYTES)
    tree_delete(fresh / "workspace")
    tree_delete(fresh / "downloads")
    for kept in (fresh / "env", fresh / "generated"):
        if kept.exists():
            _tree_open(kept)


def _tree_copy(
    source: Path, target: Path, *, without: set[str] | None = None, limit: int | None = None
) -> tuple[str, ...]:
    """Copy regular files and links that the target doesn't have, following no link; returns their paths."""
    copied: list[str] = []
    size = 0
    for folder, folders, files in os.walk(source):
        if without is not None:
            folders[:] = [name for name in folders if name not in _LEFTOVERS]
        relative = Path(folder).relative_to(source)
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            path = (relative / name).as_posix()
            entry = os.lstat(os.path.join(folder, name))
            if (without is not None and path in without) or os.path.lexists(target / path):
                continue
            if not (stat.S_ISREG(entry.st_mode) or stat.S_ISLNK(entry.st_mode)):
                continue
            size += entry.st_size
            if limit is not None and size > limit:
                raise EnvironmentSetupFailed(
                    f"The set-up left more than {limit >> 20} MiB of new files in the checkout",
                    next_step="Have the set-up command put what it downloads into /env, or clean up after itself.",
                )
            (target / relative).mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / path, target / path, follow_symlinks=False)
            copied.append(path)
    return tuple(copied)


def _tree_open(path: Path) -> None:
    """Give a folder to the server, readable for every sandbox's user."""
    server = os.geteuid()
    for _, folders, files, handle in os.fwalk(path, follow_symlinks=False):
        os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) | 0o755)
        if server == 0:
            os.fchown(handle, 0, 0)
        for name in (*folders, *files):
            entry = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if server == 0 and entry.st_uid != 0:
                os.chown(name, 0, 0, dir_fd=handle, follow_symlinks=False)
            if stat.S_ISREG(entry.st_mode):
                # No set-user-id survives, and a shared file is one of ours alone.
                executable = 0o111 if entry.st_mode & 0o100 else 0
                os.chmod(name, 0o644 | executable, dir_fd=handle)


def _environment_load(path: Path, spec: EnvironmentSpec, *, cached: bool, seconds: float) -> Environment | None:
    try:
        record: dict[str, Any] = json.loads((path / _RECORD).read_text())
    except FileNotFoundError:
        return None
    # What is used stays; what wasn't for long can be cleared away by this time.
    os.utime(path / _RECORD)
    generated = path / "generated"
    return Environment(
        path=path / "env",
        env={"VIRTUAL_ENV": SANDBOX_ENVIRONMENT, **spec.env},
        cached=cached,
        seconds=seconds,
        log=record["log"],
        ecosystem=spec.ecosystem,
        key=spec.key,
        generated=generated if generated.is_dir() else None,
    )


def _project_folder(project_id: object) -> Path:
    folder = runtime_root(settings.ARCHON_HOME) / "environments" / str(project_id)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """A lock over all processes, waited for without holding up the event loop; the kernel frees it with its holder."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield


def _uv_program() -> Path:
    """uv's own binary, which comes with our dependencies."""
    try:
        from uv import find_uv_bin

        return Path(find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise Unavailable("uv is not installed", next_step="Install Archon's requirements again.") from error
