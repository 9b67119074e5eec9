"""``archon index`` and ``archon search``: what the server knows of a project's code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cli.client import Api
from cli.code_watch import folder_watch
from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import Connection, connection_open
from cli.errors import CliError, errors_reported
from cli.index_watch import ENDED, job_follow
from cli.keys import project_find
from cli.origins import is_address, origin_find
from cli.resources import CodeHit, IndexJob
from cli.run import document_print
from cli.text import text_clean, text_line

ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def index(
    repository: Annotated[
        str,
        typer.Argument(
            metavar="REPOSITORY",
            help="A folder here, an address, or a project's id or name.",
        ),
    ] = ".",
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Forget what was read and read everything again.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and bring in what changes in the folder, saved or committed.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Don't wait for the job to end.")] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Have a project's code indexed, so that agents and `archon search` find it."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            folder = Path(repository).expanduser()
            if watch and not folder.is_dir():
                raise CliError(f"{repository} is no folder here", next_step="name one to watch", code="invalid_input")
            project_id = _project_brought(connection, repository, console=console)
            job = connection.api.index_start(project_id, rebuild=rebuild)
            if not no_wait or watch:
                job = job_await(connection.api, job, console=console)
            if json_output:
                document_print(job.model_dump(mode="json"))
            else:
                _job_tell(job, console=console)
            if job.state == "failed":
                raise typer.Exit(1)
            if watch:
                folder_watch(
                    connection.api,
                    project_id=project_id,
                    folder=folder.resolve(),
                    bring=lambda: _project_brought(connection, repository, console=console),
                    console=console,
                )


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.", show_default=False)],
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            metavar="PROJECT",
            help="Its id, its name, or its folder here. Default: this folder's, else all.",
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="hybrid, text, vector, symbol or regex.", show_default=True)
    ] = "hybrid",
    session: Annotated[str | None, typer.Option("--session", help="The files as this session has them.")] = None,
    path: Annotated[
        list[str] | None, typer.Option("--path", help="A glob that paths have to match (repeatable).")
    ] = None,
    language: Annotated[list[str] | None, typer.Option("--language", help="Such as python (repeatable).")] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Such as function, method, class, section (repeatable).")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=50, help="Hits at most.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say how each score came about.")] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Find code by words, meaning, name or pattern."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        body: dict[str, Any] = {
            "query": query,
            "mode": mode,
            "limit": limit,
            "path": path or [],
            "language": language or [],
            "kind": kind or [],
            "explain": explain,
        }
        with connection_open(server, console=console) as connection:
            project_id = _project_meant(connection, project)
            if project_id:
                body["project"] = project_id
            if session:
                body["session"] = session
            found = connection.api.code_search(body)
        if json_output:
            document_print(found)
            return
        for hit in (CodeHit.model_validate(each) for each in found.get("hits", [])):
            _hit_print(hit, console=console)
        if not found.get("hits"):
            command_print(console, "Nothing was found.")
        for note in found.get("notes", []):
            prose_print(console, text_clean(str(note)), style="dim")


def job_await(api: Api, job: IndexJob, *, console: Console) -> IndexJob:
    """The job once it has ended, however it did."""
    told = ""
    for now in job_follow(api, job):
        job = now
        line = job.told()
        if line != told and job.state not in ENDED and console.is_terminal:
            told = line
            command_print(console, text_clean(line), style="dim")
    return job


def _project_brought(connection: Connection, text: str, *, console: Console) -> str:
    """The id of the project that stands for what was named, brought up to date with what is here."""
    if is_address(text) or Path(text).expanduser().exists():
        origin = origin_find(text)
        return origin.bring(connection, project_name=origin.name or "repository", console=console).id
    return project_find(connection, text)


def _project_meant(connection: Connection, reference: str | None) -> str | None:
    if reference is not None:
        return project_find(connection, reference)
    try:
        return project_find(connection, ".")
    except CliError:
        return None


def _job_tell(job: IndexJob, *, console: Console) -> None:
    command_print(console, text_clean(job.told()))
    for note in job.notes:
        prose_print(console, text_clean(str(note.get("message", ""))), style="dim")
    if job.state == "completed":
        command_print(console, f"To search it: {command_line('search', 'QUERY', '--project', job.project)}")


def _hit_print(hit: CodeHit, *, console: Console) -> None:
    place = f"{text_line(hit.path, width=200)}:{hit.line or hit.start_line}"
    symbol = f"  {text_line(hit.symbol, width=100)}" if hit.symbol else ""
    console.print(Text.assemble((place, "bold"), symbol, (f"  {hit.score:.3f}", "dim")), soft_wrap=True)
    for number, line in enumerate(hit.snippet.text.split("\n"), hit.snippet.start_line):
        marked = "bold" if number == hit.line else ""
        console.print(Text.assemble((f"{number:>6} ", "dim"), (text_clean(line), marked)), soft_wrap=True)
    if hit.scores:
        console.print(Text(text_clean(str(hit.scores)), style="dim"), soft_wrap=True)
    console.print()


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    for command in (index, search):
        app.command()(command)
