"""What ``--repo`` names, a git repository, a folder, an archive or an address, and how each comes to the server."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.text import Text

from cli.command import prose_print
from cli.connection import Connection
from cli.errors import ApiError, CliError
from cli.folder import folder_pack
from cli.registry import ProjectRegistry
from cli.repository import LocalRepository, bundle_create, repository_open
from cli.resources import Project
from cli.text import text_clean

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_SHORT_ADDRESS = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:.+")
_POLL_SECONDS = 1.0


class Origin(Protocol):
    """Where a session's repository comes from."""

    @property
    def name(self) -> str:
        """What a new project is called."""

    @property
    def folder(self) -> Path | None:
        """Where the result can be brought to on this machine."""

    def bring(self, connection: Connection, *, project_name: str, console: Console) -> Project:
        """The project on the server, up to date with what is here; made when it isn't known yet."""


@dataclass(frozen=True)
class RemoteOptions:
    """What a new project at an address is made with, or a known one is changed to."""

    username: str = ""
    token: str = field(default="", repr=False)
    deploy_key: str = field(default="", repr=False)
    known_hosts: str = ""
    branch: str = ""
    subfolder: str = ""
    sync_minutes: int | None = None

    def given(self) -> dict[str, str | int]:
        """Members of a request, without what wasn't said."""
        fields: dict[str, str | int | None] = {
            "username": self.username,
            "token": self.token,
            "deploy_key": self.deploy_key,
            "known_hosts": self.known_hosts,
            "branch": self.branch,
            "sync_minutes": self.sync_minutes,
        }
        return {name: value for name, value in fields.items() if value not in ("", None)}


def origin_find(text: str, options: RemoteOptions | None = None) -> Origin:
    """CliError for what is none of these."""
    options = options or RemoteOptions()
    if is_address(text):
        return RemoteOrigin(text, options)
    path = Path(text).expanduser()
    if path.is_file():
        if path.name.lower().endswith(_ARCHIVES):
            return ArchiveOrigin(path.resolve())
        raise CliError(
            f"{path} is neither a folder nor an archive",
            next_step="name a folder, a tar.gz or zip file, or an address such as https://HOST/PATH with --repo",
            code="repository_missing",
        )
    try:
        return GitOrigin(repository_open(path))
    except CliError as error:
        if error.code != "repository_none":
            raise
        if not any(path.iterdir()):
            raise CliError(
                f"{path} is empty", next_step="name a folder with files in it with --repo", code="folder_empty"
            ) from None
        return FolderOrigin(path.resolve())


def is_address(text: str) -> bool:
    """Whether this is where a repository is elsewhere, rather than a path."""
    return "://" in text or (_SHORT_ADDRESS.fullmatch(text) is not None and not Path(text).exists())


@dataclass(frozen=True)
class GitOrigin:
    """The commits of a repository on this machine."""

    repository: LocalRepository

    @property
    def name(self) -> str:
        return self.repository.path.name

    @property
    def folder(self) -> Path | None:
        return self.repository.path

    def bring(self, connection: Connection, *, project_name: str, console: Console) -> Project:
        with tempfile.TemporaryDirectory(prefix="archon-") as apart:
            bundle = bundle_create(self.repository, folder=Path(apart))
            project = project_find(connection, key=str(self.repository.path), name=project_name)
            _upload_tell(bundle, console=console)
            connection.api.repository_upload(project_id=project.id, bundle=bundle, branch=self.repository.branch)
        return project


@dataclass(frozen=True)
class FolderOrigin:
    """The files of a folder without git, as they are now."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def folder(self) -> Path | None:
        return self.path

    def bring(self, connection: Connection, *, project_name: str, console: Console) -> Project:
        with tempfile.TemporaryDirectory(prefix="archon-") as apart:
            target = Path(apart) / "folder.tar.gz"
            packed = folder_pack(self.path, target=target, apart=Path(apart))
            told = f"{self.path} is not in a git repository: {packed.files} files of it are sent. {packed.told()}"
            prose_print(console, text_clean(told.strip()), style="yellow")
            project = project_find(connection, key=str(self.path), name=project_name)
            _upload_tell(target, console=console)
            return connection.api.archive_upload(project_id=project.id, archive=target)


@dataclass(frozen=True)
class ArchiveOrigin:
    """The files in an archive."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name.split(".")[0]

    @property
    def folder(self) -> Path | None:
        return None

    def bring(self, connection: Connection, *, project_name: str, console: Console) -> Project:
        project = project_find(connection, key=str(self.path), name=project_name)
        _upload_tell(self.path, console=console)
        return connection.api.archive_upload(project_id=project.id, archive=self.path)


@dataclass(frozen=True)
class RemoteOrigin:
    """A repository elsewhere, which the server fetches."""

    url: str
    options: RemoteOptions

    @property
    def name(self) -> str:
        return re.split(r"[/:]", self.url.rstrip("/").removesuffix("/.git"))[-1].removesuffix(".git")

    @property
    def folder(self) -> Path | None:
        return None

    def bring(self, connection: Connection, *, project_name: str, console: Console) -> Project:
        registry = ProjectRegistry(connection.home)
        known = _known(connection, registry, self.url)
        if known is None:
            return remote_create(connection, url=self.url, options=self.options, name=project_name, console=console)
        given = self.options.given()
        if given:
            connection.api.source_update(known.id, given)
        else:
            connection.api.project_sync(known.id)
        return project_await(connection, known.id, console=console)


def remote_create(connection: Connection, *, url: str, options: RemoteOptions, name: str, console: Console) -> Project:
    """A new project whose repository is fetched; waits until it has come."""
    project = connection.api.project_create(
        name=name, repository_url=url, subfolder=options.subfolder, **options.given()
    )
    ProjectRegistry(connection.home).remember(server=connection.server, repository=url, project_id=project.id)
    return project_await(connection, project.id, console=console)


def project_await(connection: Connection, project_id: str, *, console: Console) -> Project:
    """Wait for a fetch that is under way, and show how far it is; CliError when it fails."""
    shown = ""
    with console.status("fetching the repository") as status:
        while True:
            project = connection.api.project_get(project_id)
            source = project.source
            if source is None or source.state not in ("waiting", "running"):
                break
            progress = source.progress
            text = f"fetching {source.url}" + (f": {progress.told}" if progress is not None else "")
            if text != shown:
                status.update(Text(text_clean(text)))
                if not console.is_terminal and progress is None:
                    console.print(Text(text_clean(text)), soft_wrap=True)
                shown = text
            time.sleep(_POLL_SECONDS)
    if source is not None and source.state == "failed":
        reason = source.reason
        raise CliError(
            text_clean(reason.message if reason else "the repository could not be fetched"),
            next_step=text_clean(reason.next_step if reason else ""),
            code=(reason.code if reason else "") or "fetch_failed",
        )
    for notice in project.repository_notices:
        prose_print(console, text_clean(f"Note: {notice.path}: {notice.message}"), style="yellow")
    return project


def project_find(connection: Connection, *, key: str, name: str) -> Project:
    """The project that stands for a folder or archive here; made when there is none."""
    registry = ProjectRegistry(connection.home)
    known = _known(connection, registry, key)
    if known is not None:
        return known
    project = connection.api.project_create(name=name)
    registry.remember(server=connection.server, repository=key, project_id=project.id)
    return project


def _known(connection: Connection, registry: ProjectRegistry, key: str) -> Project | None:
    known = registry.project_id(server=connection.server, repository=key)
    if known is None:
        return None
    try:
        return connection.api.project_get(known)
    except ApiError as error:
        # Deleted, or another user's by now: make one anew.
        if error.status not in (403, 404):
            raise
        return None


def _upload_tell(path: Path, *, console: Console) -> None:
    size = path.stat().st_size / 1024 / 1024
    if size >= 1:
        prose_print(console, f"Uploading the repository ({size:.1f} MiB)", style="dim")
