"""``archon say``: a further word to a session that has ended; it goes on with that."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import console_make
from cli.connection import connection_open
from cli.errors import EXIT_CODES_HELP, CliError, errors_reported
from cli.follow import manners_of
from cli.materials import materials_open, materials_upload
from cli.registry import ProjectRegistry
from cli.run import session_attend, session_leave
from cli.sessions import JsonOption, ServerOption, SessionArgument, session_find


def say(
    session: SessionArgument,
    message: Annotated[
        str, typer.Argument(metavar="MESSAGE", help="What should be different now.", show_default=False)
    ],
    attach: Annotated[
        list[Path] | None, typer.Option("--attach", metavar="FILE", help="Send a file along (repeatable).")
    ] = None,
    more_cost: Annotated[
        float | None, typer.Option("--more-cost", metavar="USD", min=0, help="Add to its limit.")
    ] = None,
    more_steps: Annotated[
        int | None, typer.Option("--more-steps", metavar="N", min=1, help="Add to its limit.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing; questions are left to the agent's judgement.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Let it go on and leave it alone.")] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Have a session that has ended go on: the same branch, the same conversation."""
    with errors_reported(json_output=json_output):
        if not message.strip():
            raise CliError("the message is empty", next_step="say what should be different", code="invalid_input")
        console = console_make(json_output=json_output)
        manners = manners_of(yes=yes, json_output=json_output, owner=True)
        more: dict[str, Any] = {"cost_usd": more_cost, "steps": more_steps}
        with materials_open(attach=attach) as materials, connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            seen = connection.api.session_progress(found.id).last_seq
            now = connection.api.message_send(
                found.id,
                text=message,
                attachments=materials_upload(connection.api, materials).attachments,
                more={name: value for name, value in more.items() if value is not None},
                key=str(uuid.uuid4()),
            )
            if detach:
                code = session_leave(connection, now, console=console, json_output=json_output)
            else:
                registry = ProjectRegistry(connection.home)
                code = session_attend(
                    connection,
                    now,
                    console=console,
                    manners=manners,
                    repository=registry.repository(server=connection.server, project_id=now.project),
                    seen=seen,
                )
        raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command(name="say", epilog=EXIT_CODES_HELP)(say)
