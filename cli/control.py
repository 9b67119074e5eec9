"""``archon steps`` and ``archon rewind``: where a session can be taken back to, and taking it there."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli.command import command_line, command_print, console_make
from cli.connection import connection_open
from cli.errors import CliError, confirmer_require, errors_reported
from cli.resources import Step
from cli.run import document_print
from cli.sessions import JsonOption, ServerOption, SessionArgument, YesOption, session_find
from cli.text import text_line

#: What the columns before the summary take.
_OTHER_COLUMNS = 36


def steps(session: SessionArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """List the steps that a session can be taken back to."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            listed = connection.api.step_list(found.id)
        if json_output:
            document_print({"session_id": found.id, "steps": [step.model_dump(mode="json") for step in listed]})
            return
        if not listed:
            command_print(console, "There is no step yet.")
            return
        console.print(_table(listed, width=console.width))
        command_print(console, f"To go back to one: {command_line('rewind', found.id, '--to', 'STEP')}")


def rewind(
    session: SessionArgument,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="STEP", min=1, help="Its number in steps. Default: the last but one.", show_default=False
        ),
    ] = None,
    yes: YesOption = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Take a session that stands still back to right after a step: files, branch, conversation and plan."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if not yes:
            confirmer_require(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            step = _step_choose(connection.api.step_list(found.id), to, session_id=found.id)
            told = text_line(f"{step.type}: {step.summary}", width=80)
            if not yes and not typer.confirm(f"take back all that came after step {step.seq} ({told})?"):
                raise CliError("left as it is", code="confirmation_needed")
            now = connection.api.session_command(found.id, "rewind", seq=step.seq)
        if json_output:
            document_print(now.model_dump(mode="json"))
            return
        command_print(console, f"It is as it was after step {step.seq}. To go on: {command_line('resume', found.id)}")
        command_print(console, f"To say first what should be different: {command_line('say', found.id, 'MESSAGE')}")


def _step_choose(listed: list[Step], to: int | None, *, session_id: str) -> Step:
    see = f"see {command_line('steps', session_id)}"
    if to is None:
        if len(listed) < 2:
            raise CliError("there is no step before the last one", next_step=see, code="not_found")
        return listed[-2]
    for step in listed:
        if step.seq == to:
            return step
    raise CliError(f"{to} is no step that the session can be taken back to", next_step=see, code="not_found")


def _table(listed: list[Step], *, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("step", "turn", "what", "summary"):
        table.add_column(column, no_wrap=True)
    for step in listed:
        summary = f"files not kept: {step.problem}" if step.problem else step.summary
        table.add_row(
            str(step.seq),
            str(step.turn or ""),
            step.type,
            Text(text_line(summary, width=max(width - _OTHER_COLUMNS, 10))),
        )
    return table


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    for command in (steps, rewind):
        app.command()(command)
