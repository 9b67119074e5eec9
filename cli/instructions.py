"""``archon instructions`` and ``archon preferences``: what is said to every agent before any goal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import connection_open
from cli.errors import CliError, errors_reported
from cli.projects import ProjectArgument, project_named
from cli.run import document_print
from cli.text import text_clean

FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE",
        help="Holds the new text; - is standard input. Without it the text is shown.",
        show_default=False,
    ),
]
ClearOption = Annotated[bool, typer.Option("--clear", help="Say nothing from now on.")]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
#: More than the server takes; read before it is sent.
_MOST_BYTES = 1_000_000


def instructions(
    project: ProjectArgument,
    file: FileArgument = None,
    clear: ClearOption = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Show or set what a project says to every agent of its sessions."""
    with errors_reported(json_output=json_output):
        text = _text_given(file, clear=clear)
        with connection_open(server, console=console_make(json_output=json_output)) as connection:
            found = project_named(connection.api, project)
            if text is not None:
                found = connection.api.project_update(found.id, {"instructions": text})
        if json_output:
            document_print({"project_id": found.id, "instructions": found.instructions})
        else:
            _tell(found.instructions, is_set=text is not None, how=("instructions", project, "FILE"))


def preferences(
    file: FileArgument = None,
    clear: ClearOption = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Show or set what you say to every agent of the sessions that you start, whatever the project."""
    with errors_reported(json_output=json_output):
        text = _text_given(file, clear=clear)
        with connection_open(server, console=console_make(json_output=json_output)) as connection:
            me = connection.api.me() if text is None else connection.api.me_update({"preferences": text})
        if json_output:
            document_print({"preferences": me.preferences})
        else:
            _tell(me.preferences, is_set=text is not None, how=("preferences", "FILE"))


def _text_given(file: str | None, *, clear: bool) -> str | None:
    """The text that is to be set; None where none is."""
    if file is None:
        return "" if clear else None
    if clear:
        raise CliError("a file to read and --clear exclude each other", next_step="name one", code="invalid_input")
    try:
        content = sys.stdin.buffer.read(_MOST_BYTES) if file == "-" else _read(Path(file).expanduser())
        text = content.decode()
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}", code="invalid_input") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{file} is no text in UTF-8", code="invalid_input") from error
    if not text.strip():
        raise CliError(f"{file} is empty", next_step="to say nothing, use --clear", code="invalid_input")
    return text


def _read(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(_MOST_BYTES)


def _tell(text: str, *, is_set: bool, how: tuple[str, ...]) -> None:
    console = console_make()
    if is_set:
        what = "Agents are told so" if text else "Agents are told nothing more"
        prose_print(console, f"{what}, in sessions and follow-ups from now on.")
    elif text:
        command_print(console, text_clean(text))
    else:
        command_print(console, f"Nothing is said to agents beforehand. To say something: {command_line(*how)}")


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.command()(instructions)
    app.command()(preferences)
