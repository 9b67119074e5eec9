"""``archon run``: a goal, a repository, and a session that works on it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import LOCAL_SERVER, Connection, connection_open
from cli.errors import (
    EXIT_CODES_HELP,
    EXIT_WAITING,
    ApiError,
    CliError,
    errors_reported,
)
from cli.follow import Manners, manners_of, session_follow
from cli.materials import Materials, materials_open, materials_upload
from cli.registry import ProjectRegistry
from cli.repository import LocalRepository, bundle_create, repository_open
from cli.resources import Project, Session
from cli.result import picture_save, reason_print, result_get, result_print
from cli.text import text_clean

#: What tells a server which model to use; it reads them when it starts.
_MODEL_VARIABLES = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "ARCHON_MODEL",
    "ARCHON_MODEL_KEYS",
)


@dataclass(frozen=True)
class RunRequest:
    """What a session is to do, and with what. ``options`` are members of the request to ``sessions/run/``."""

    goal: str
    repository: LocalRepository
    options: dict[str, Any]
    #: What the project is called on the server, if it is made now.
    project_name: str
    materials: Materials = field(default_factory=Materials)


def session_start(connection: Connection, request: RunRequest, *, console: Console) -> Session:
    """Bring the repository to the server, as a project that is found again next time, and start the session."""
    registry = ProjectRegistry(connection.home)
    with tempfile.TemporaryDirectory(prefix="archon-") as folder:
        bundle = bundle_create(request.repository, folder=Path(folder))
        project = _project_find(connection, request, registry)
        size = bundle.stat().st_size / 1024 / 1024
        if size >= 1:
            prose_print(console, f"Uploading the repository ({size:.1f} MiB)", style="dim")
        connection.api.repository_upload(project_id=project.id, bundle=bundle, branch=request.repository.branch)
    options = {**request.options, **materials_upload(connection.api, request.materials).members()}
    try:
        return connection.api.session_run(project_id=project.id, goal=request.goal, options=options)
    except ApiError as error:
        if error.code == "model_not_configured" and connection.server == LOCAL_SERVER:
            _restart_suggest(error)
        raise


def session_attend(
    connection: Connection,
    session: Session,
    *,
    console: Console,
    manners: Manners,
    repository: Path | None,
    record_svg: Path | None = None,
    seen: int = 0,
) -> int:
    """Follow the session and say what came of it; the exit code."""
    followed = session_follow(connection.api, session, console=console, manners=manners, seen=seen)
    if followed.ending == "detached":
        return session_leave(connection, session, console=console, json_output=manners.json_output)
    result = result_get(connection.api, session.id)
    if record_svg is not None:
        picture_save(result, state=followed.state, path=record_svg)
    if manners.json_output:
        document_print(result.as_json())
    elif followed.ending == "waiting":
        _waiting_tell(result.session, console=console)
        return EXIT_WAITING
    else:
        result_print(result, console=console, repository=repository)
    return result.exit_code


def session_leave(connection: Connection, session: Session, *, console: Console, json_output: bool) -> int:
    """The session goes on without us; say how to come back."""
    connection.keep()
    if json_output:
        document_print(result_get(connection.api, session.id).as_json())
    else:
        text = f"The session goes on by itself. To watch it: {command_line('watch', session.id)}"
        command_print(console, text)
        if connection.server == LOCAL_SERVER:
            command_print(console, f"So does the server. To stop it: {command_line('down')}")
    return 0


def document_print(document: dict[str, Any]) -> None:
    """The one thing that standard output carries with ``--json``."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _waiting_tell(session: Session, *, console: Console) -> None:
    lines = [
        "It goes on with",
        f"  {command_line('resume', session.id)}",
        f"  {command_line('watch', session.id)}",
    ]
    if session.reason is not None:
        reason_print(session.reason, console=console)
    for line in lines:
        command_print(console, line)


def _restart_suggest(error: ApiError) -> None:
    """A local server that was up already knows nothing of a variable that is set by now."""
    variables = [variable for variable in _MODEL_VARIABLES if os.environ.get(variable)]
    if variables:
        error.next_step = (
            f"{variables[0]} is set here, but the local server runs with the environment that it was started with: "
            f"{command_line('down')}, and again. {error.next_step}"
        )


def _project_find(connection: Connection, request: RunRequest, registry: ProjectRegistry) -> Project:
    path = request.repository.path
    known = registry.project_id(server=connection.server, repository=path)
    if known is not None:
        try:
            return connection.api.project_get(known)
        except ApiError as error:
            # Deleted, or another user's by now: make one anew.
            if error.status not in (403, 404):
                raise
    project = connection.api.project_create(name=request.project_name)
    registry.remember(server=connection.server, repository=path, project_id=project.id)
    return project


def run(
    goal: Annotated[
        str, typer.Argument(metavar="GOAL", help="What to do, in plain words; not needed with --issue or --log.")
    ] = "",
    attach: Annotated[
        list[Path] | None, typer.Option("--attach", metavar="FILE", help="Give a file or an image along (repeatable).")
    ] = None,
    issue: Annotated[
        str | None, typer.Option("--issue", metavar="FILE|URL|-", help="Start from an issue; -: standard input.")
    ] = None,
    log: Annotated[
        str | None, typer.Option("--log", metavar="FILE|URL|-", help="Start from the log of a failing CI run.")
    ] = None,
    repo: Annotated[Path, typer.Option("--repo", help="A git repository; only what is committed is used.")] = Path("."),
    model: Annotated[
        str | None, typer.Option("--model", metavar="PROVIDER:MODEL", help="Default: the first provider with a key.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="An endpoint that speaks the provider's protocol.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="CMD", help="How to tell that the code works (repeatable). Default: found."),
    ] = None,
    setup: Annotated[
        str | None, typer.Option("--setup", metavar="CMD", help="Installs the dependencies. Default: found.")
    ] = None,
    limit_cost: Annotated[
        float | None, typer.Option("--limit-cost", metavar="USD", min=0, help="At most this.")
    ] = None,
    limit_steps: Annotated[
        int | None, typer.Option("--limit-steps", metavar="N", min=1, help="At most so many.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing; questions are left to the agent's judgement.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start the session and leave it alone.")] = False,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
    ] = None,
    record_svg: Annotated[Path | None, typer.Option("--record-svg", hidden=True)] = None,
) -> None:
    """Have agents reach a goal in a repository. They work on a branch of their own."""
    with errors_reported(json_output=json_output), ExitStack() as given:
        if not goal.strip() and issue is None and log is None:
            raise CliError("the goal is empty", next_step="say what is to be done", code="invalid_input")
        console = console_make(json_output=json_output)
        repository = repository_open(repo)
        if repository.changed_files:
            _changes_tell(repository, console=console)
        materials = given.enter_context(materials_open(attach=attach, issue=issue, log=log))
        request = RunRequest(
            goal=goal,
            repository=repository,
            options=options_build(
                model=model,
                base_url=base_url,
                checks=check,
                setup=setup,
                limit_cost=limit_cost,
                limit_steps=limit_steps,
            ),
            project_name=repository.path.name or "repository",
            materials=materials,
        )
        manners = manners_of(yes=yes, json_output=json_output, owner=True)
        with connection_open(server, console=console) as connection:
            session = session_start(connection, request, console=console)
            if detach:
                code = session_leave(connection, session, console=console, json_output=json_output)
            else:
                code = session_attend(
                    connection,
                    session,
                    console=console,
                    manners=manners,
                    repository=repository.path,
                    record_svg=record_svg,
                )
        raise typer.Exit(code)


def options_build(
    *,
    model: str | None = None,
    base_url: str | None = None,
    checks: list[str] | None = None,
    setup: str | None = None,
    limit_cost: float | None = None,
    limit_steps: int | None = None,
) -> dict[str, Any]:
    """The members of a request that were asked for; the server knows the defaults of the others."""
    limits = {"cost_usd": limit_cost, "steps": limit_steps}
    options = {
        "model": model,
        "base_url": base_url,
        "checks": checks or None,
        "setup_command": setup,
        "limits": {name: value for name, value in limits.items() if value is not None} or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _changes_tell(repository: LocalRepository, *, console: Console) -> None:
    files = "1 file is" if repository.changed_files == 1 else f"{repository.changed_files} files are"
    text = (
        f"Note: {files} changed or new since the last commit. The session works on what is committed "
        f"({repository.branch} at {repository.head_commit[:10]}); your files stay as they are."
    )
    prose_print(console, text_clean(text), style="yellow")


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command(name="run", epilog=EXIT_CODES_HELP)(run)
