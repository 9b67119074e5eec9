"""``archon apply``: a session's changes, written into a folder or handed over as a patch."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import connection_open
from cli.errors import CliError, confirmer_require, errors_reported
from cli.registry import ProjectRegistry
from cli.repository import repository_open
from cli.run import document_print
from cli.sessions import JsonOption, ServerOption, SessionArgument, YesOption, session_find
from cli.text import text_clean

_SHOWN = 20


def apply(
    session: SessionArgument,
    repo: Annotated[
        Path | None, typer.Option("--repo", help="Default: the folder that the session started from.")
    ] = None,
    patch: Annotated[
        Path | None, typer.Option("--patch", metavar="FILE", help="Write the patch there and change nothing else.")
    ] = None,
    yes: YesOption = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Write a session's changes into your files, when they are still as the session met them. Asks first."""
    with errors_reported(json_output=json_output), tempfile.TemporaryDirectory(prefix="archon-") as apart:
        console = console_make(json_output=json_output)
        if patch is None and not yes:
            confirmer_require(json_output=json_output, next_step="say --yes, or --patch FILE")
        downloaded = Path(apart) / "session.patch"
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            connection.api.patch_download(found.id, target=downloaded)
            known = ProjectRegistry(connection.home).repository(server=connection.server, project_id=found.project)
        if downloaded.stat().st_size == 0:
            raise CliError("the session changed nothing", code="nothing_changed")
        if patch is not None:
            patch.write_bytes(downloaded.read_bytes())
            if json_output:
                document_print({"patch": str(patch), "files": []})
            else:
                command_print(console, f"Written to {patch}. To apply it: git apply {patch}")
            return
        folder = folder_choose(repo or known)
        files = patch_check(folder, downloaded)
        if not yes:
            for name in files[:_SHOWN]:
                command_print(console, f"  {text_clean(name)}")
            if len(files) > _SHOWN:
                command_print(console, f"  … and {len(files) - _SHOWN} more")
            if not typer.confirm(f"Write these changes into {folder}?"):
                raise CliError("left as it is", code="confirmation_needed")
        patch_apply(folder, downloaded)
        if json_output:
            document_print({"folder": str(folder), "files": files})
        else:
            prose_print(console, f"{len(files)} file{'' if len(files) == 1 else 's'} changed in {folder}")


def folder_choose(named: Path | None) -> Path:
    """The folder to write into: the top of its repository where it is in one."""
    folder = (named or Path(".")).expanduser()
    try:
        return repository_open(folder).path
    except CliError as error:
        if error.code != "repository_none":
            raise
        return folder.resolve()


def patch_check(folder: Path, patch: Path) -> list[str]:
    """The files that the patch changes; CliError when they are not as the session met them."""
    checked = _git(folder, "apply", "--check", "--whitespace=nowarn", str(patch))
    if checked.returncode:
        raise CliError(
            f"the changes don't fit the files in {folder}: {checked.stderr.strip()[:1000]}",
            next_step="undo what was changed there since, name another folder with --repo, or take the patch: "
            + command_line("apply", "SESSION", "--patch", "FILE"),
            code="patch_does_not_fit",
        )
    listed = _git(folder, "apply", "--numstat", "-z", str(patch))
    return [entry.split("\t", 2)[-1] for entry in listed.stdout.split("\0") if entry]


def patch_apply(folder: Path, patch: Path) -> None:
    """All of it or nothing."""
    done = _git(folder, "apply", "--whitespace=nowarn", str(patch))
    if done.returncode:
        raise CliError(f"git could not apply the changes: {done.stderr.strip()[:1000]}", code="patch_failed")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # A repository further up has nothing to do with a folder that is in none.
    environment |= {"LC_ALL": "C.UTF-8", "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    try:
        return subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="surrogateescape", check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise CliError("git is not installed", next_step="install git", code="git_missing") from None


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(apply)
