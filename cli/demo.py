"""``archon demo``: a session on a sample repository, by the same way as ``archon run``, with a recorded model."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from cli.command import CHECKOUT, command_line, command_print, console_make, prose_print
from cli.connection import connection_open
from cli.errors import EXIT_CODES_HELP, CliError, errors_reported
from cli.follow import manners_of
from cli.origins import GitOrigin
from cli.repository import LocalRepository, repository_create
from cli.run import RunRequest, options_build, session_attend, session_start

SAMPLE = CHECKOUT / "examples" / "invoicing"
MODEL = "scripted:invoicing"
GOAL = (
    "Discounts on invoices are off by a cent on some lines. Find out why, mend it, and make sure that it stays mended."
)
NOTICE = (
    "The model in this demo is a recording: what it says and which tools it calls was written down beforehand "
    "(examples/invoicing.json). Nothing else is: the server, the sandbox, the tools, the tests and the commits are "
    "real, and the verdict at the end is the server's own."
)


def sample_create(home: Path) -> LocalRepository:
    """A fresh copy of the sample, as a git repository of its own under ``home``."""
    target = home / "demo" / uuid.uuid4().hex[:8]
    try:
        shutil.copytree(SAMPLE, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    except OSError as error:
        raise CliError(
            f"the sample can't be copied to {target}: {error}", next_step="see ARCHON_HOME", code="sample_failed"
        ) from error
    return repository_create(target, message="Invoices with discounts and taxes")


def demo(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
    ] = None,
    record_svg: Annotated[Path | None, typer.Option("--record-svg", hidden=True)] = None,
) -> None:
    """See a session mend a bug in a sample repository; no key needed. The model's part is a recording."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        console.print(
            Panel(Text(NOTICE), title="demo", title_align="left", border_style="yellow", width=_width(console))
        )
        with connection_open(server, console=console) as connection:
            repository = sample_create(connection.home)
            request = RunRequest(
                goal=GOAL,
                origin=GitOrigin(repository),
                # Whatever the server does by itself: the recording has a reviewer's part.
                options=options_build(model=MODEL, review="auto"),
                project_name="demo: invoicing",
            )
            session = session_start(connection, request, console=console)
            code = session_attend(
                connection,
                session,
                console=console,
                manners=manners_of(yes=True, json_output=json_output, owner=True),
                repository=repository.path,
                record_svg=record_svg,
            )
        if not json_output:
            _what_next(console, repository)
        raise typer.Exit(code)


def _what_next(console: Console, repository: LocalRepository) -> None:
    own = command_line("run", "what you want done", "--repo", "PATH")
    console.print()
    prose_print(console, f"The sample is at {repository.path}; delete it when you like.")
    prose_print(console, "Remember: the model's part was a recording. With a key, on a repository of your own:")
    command_print(console, f"  OPENAI_API_KEY=… {own}", style="bold")


def _width(console: Console) -> int:
    return min(console.width, 110)


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command(name="demo", epilog=EXIT_CODES_HELP)(demo)
