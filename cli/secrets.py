"""``archon secrets``: what a project's commands need and nobody is shown."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from cli.client import Api
from cli.command import command_line, command_print, console_make
from cli.connection import connection_open
from cli.errors import CliError, errors_reported
from cli.keys import project_find
from cli.resources import Secret
from cli.run import document_print
from cli.text import text_clean

ProjectOption = Annotated[
    str,
    typer.Option(
        "--project", metavar="PROJECT", help="A project: its id, its name, or the repository that it was made from."
    ),
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The variable that commands get it in.", show_default=False)
]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

_app = typer.Typer(
    help="A project's secrets: stored encrypted, given to the sessions that name them, and shown to nobody.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@_app.command("list")
def secret_list(project: ProjectOption, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """List a project's secrets by name."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = connection.api.secret_list(project_id=project_find(connection, project))
        if json_output:
            document_print({"secrets": [secret.model_dump(mode="json") for secret in found]})
        elif not found:
            command_print(console, "The project has no secrets.")
        else:
            for secret in found:
                command_print(console, text_clean(secret.name))


@_app.command("set")
def secret_set(
    name: NameArgument, project: ProjectOption, json_output: JsonOption = False, server: ServerOption = None
) -> None:
    """Store a secret, in the place of one of that name: asked for at the terminal, or read from standard input."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        value = _value_read(name)
        with connection_open(server, console=console) as connection:
            secret = _store(connection.api, project_find(connection, project), name, value)
        if json_output:
            document_print(secret.model_dump(mode="json"))
        else:
            how = command_line("run", "GOAL", "--secret", name)
            command_print(console, f"Stored. Sessions get it that name it: {how}")


@_app.command("remove")
def secret_remove(
    name: NameArgument, project: ProjectOption, json_output: JsonOption = False, server: ServerOption = None
) -> None:
    """Forget a secret. Sessions that run keep it until they are taken up anew."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project)
            if name not in [secret.name for secret in connection.api.secret_list(project_id=project_id)]:
                raise CliError(
                    f"the project has no secret {name!r}",
                    next_step=f"see {command_line('secrets', 'list', '--project', project)}",
                    code="not_found",
                )
            connection.api.secret_delete(project_id=project_id, name=name)
        if json_output:
            document_print({"removed": name})
        else:
            command_print(console, "Removed.")


def _store(api: Api, project_id: str, name: str, value: str) -> Secret:
    return api.secret_store(project_id=project_id, name=name, value=value)


def _value_read(name: str) -> str:
    if sys.stdin.isatty():
        value = getpass.getpass(f"{name}: ", stream=sys.stderr)
    else:
        # What `cat`, `echo` and editors add is no part of it.
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise CliError("no value was given", next_step="type it, or send it to standard input", code="invalid_input")
    return value


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.add_typer(_app, name="secrets")
