"""Commands on projects: what the server has of repositories."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli.client import Api
from cli.command import command_line, command_print, console_make
from cli.connection import connection_open
from cli.credentials import remote_options
from cli.errors import CliError, confirmer_require, errors_reported
from cli.origins import RemoteOrigin, is_address, project_await, remote_create
from cli.resources import Project
from cli.run import document_print
from cli.text import text_clean, text_line

ProjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROJECT", help="The project's id, enough of its beginning, or its name.", show_default=False
    ),
]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
_PREFIX_LENGTH = 4


def project_named(api: Api, reference: str) -> Project:
    """The project of this id or name, or the only one whose id begins so."""
    try:
        return api.project_get(str(uuid.UUID(reference)))
    except ValueError:
        known = api.project_list()
    found = [project for project in known if project.name == reference]
    if not found and len(reference) >= _PREFIX_LENGTH:
        found = [project for project in known if project.id.startswith(reference.lower())]
    if len(found) != 1:
        problem = "means several projects" if found else "is no project"
        raise CliError(f"{reference!r} {problem}", next_step=f"see {command_line('projects')}", code="not_found")
    return found[0]


def projects(json_output: JsonOption = False, server: ServerOption = None) -> None:
    """List the projects, newest first."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = connection.api.project_list()
        if json_output:
            document_print({"projects": [project.model_dump(mode="json") for project in found]})
            return
        if not found:
            command_print(console, f"There are no projects yet. To make one: {command_line('clone', 'URL')}")
            return
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for column in ("project", "repository", "branch", "name", "from"):
            table.add_column(column, no_wrap=True)
        for project in found:
            state = project.repository_state
            if project.source is not None and project.source.state in ("running", "failed") and state == "ready":
                state = {"running": "syncing", "failed": "not synced"}[project.source.state]
            table.add_row(
                project.id[:8],
                state,
                Text(text_line(project.default_branch, width=30)),
                Text(text_line(project.name, width=30)),
                Text(text_line(project.source.url if project.source else "", width=60)),
            )
        console.print(table)


def clone(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://…, ssh://… or git@HOST:PATH", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="Of the project; default: the repository's.")] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Holds a token for https; default: ARCHON_GIT_TOKEN.")
    ] = None,
    username: Annotated[str, typer.Option("--username", help="Whose the token is, if the host wants to know.")] = "",
    deploy_key: Annotated[Path | None, typer.Option("--deploy-key", help="A private key for ssh.")] = None,
    known_hosts: Annotated[
        Path | None, typer.Option("--known-hosts", help="Keys of the ssh host; default: the first one is believed.")
    ] = None,
    branch: Annotated[str, typer.Option("--branch", help="To work on; default: the one that HEAD names there.")] = "",
    subfolder: Annotated[str, typer.Option("--subfolder", help="The folder that the work is about.")] = "",
    sync_minutes: Annotated[
        int | None, typer.Option("--sync-minutes", min=0, help="Before a session, sync what is older than this.")
    ] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Make a project of a repository elsewhere: the server fetches it, with all of its history."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if not is_address(url):
            raise CliError(
                f"{url} is not the address of a repository",
                next_step=f"write https://HOST/PATH or git@HOST:PATH; for a folder here use {command_line('run')}",
                code="invalid_input",
            )
        options = remote_options(
            url=url,
            token_file=token_file,
            username=username,
            deploy_key=deploy_key,
            known_hosts=known_hosts,
            branch=branch,
            subfolder=subfolder,
            sync_minutes=sync_minutes,
        )
        with connection_open(server, console=console) as connection:
            project = remote_create(
                connection, url=url, options=options, name=name or RemoteOrigin(url, options).name, console=console
            )
        _tell(project, json_output=json_output, verb="Cloned")


def sync(
    project: ProjectArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Take the source's branches also where they were rewritten.")
    ] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Fetch a project's repository again. Sessions begin from there; those that run go on from where they were."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = project_named(connection.api, project)
            connection.api.project_sync(found.id, force=force)
            found = project_await(connection, found.id, console=console)
        _tell(found, json_output=json_output, verb="Synced")


def remove(
    project: ProjectArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Delete a project with its sessions and its repository on the server. What is on this machine stays."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if not yes:
            confirmer_require(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = project_named(connection.api, project)
            if not yes and not typer.confirm(f"{text_clean(found.name)}: delete it with all of its sessions?"):
                raise CliError("left as it is", code="confirmation_needed")
            connection.api.project_delete(found.id)
        if json_output:
            document_print({"project_id": found.id})
        else:
            command_print(console, "Deleted.")


def _tell(project: Project, *, json_output: bool, verb: str) -> None:
    if json_output:
        document_print(project.model_dump(mode="json"))
        return
    console = console_make()
    head = (project.head_commit or "")[:12]
    command_print(console, text_clean(f"{verb}: {project.name}, {project.default_branch} at {head} ({project.id})"))


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    for command in (projects, clone, sync, remove):
        app.command()(command)
