"""``archon say``: a word to a session. One that has ended goes on with it; the agent of another hears it next."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.client import Api
from cli.command import command_line, command_print, console_make
from cli.connection import connection_open
from cli.errors import EXIT_CODES_HELP, ApiError, CliError, errors_reported
from cli.follow import manners_of
from cli.materials import materials_open, materials_upload
from cli.registry import ProjectRegistry
from cli.resources import TERMINAL_STATUSES, Session
from cli.run import document_print, session_attend, session_leave
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
    """Say something to a session: its agent hears it before its next step. One that has ended goes on with it."""
    with errors_reported(json_output=json_output):
        if not message.strip():
            raise CliError("the message is empty", next_step="say what should be different", code="invalid_input")
        console = console_make(json_output=json_output)
        manners = manners_of(yes=yes, json_output=json_output, owner=True)
        more: dict[str, Any] = {"cost_usd": more_cost, "steps": more_steps}
        with materials_open(attach=attach) as materials, connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            seen = connection.api.session_progress(found.id).last_seq
            added = {name: value for name, value in more.items() if value is not None}
            key = str(uuid.uuid4())
            if found.status not in TERMINAL_STATUSES:
                if attach or added:
                    raise CliError(
                        f"the session is {found.status}: what is said to it now comes without files and limits",
                        next_step="leave --attach and --more-… away, or wait until it has ended",
                        code="invalid_input",
                    )
                if _steered(connection.api, found, text=message, key=key):
                    _steered_tell(found, console=console, json_output=json_output)
                    return
            now = connection.api.message_send(
                found.id,
                text=message,
                attachments=materials_upload(connection.api, materials).attachments,
                more=added,
                key=key,
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


def _steered(api: Api, session: Session, *, text: str, key: str) -> bool:
    """Say it to the agent at work; False when the session has ended meanwhile."""
    try:
        api.session_steer(session.id, text=text, key=key)
    except ApiError as error:
        if error.status == 409 and error.state in TERMINAL_STATUSES:
            return False
        raise
    return True


def _steered_tell(session: Session, *, console: Console, json_output: bool) -> None:
    if json_output:
        document_print({"session_id": session.id, "steered": True})
        return
    heard = {
        "paused": f"It is heard once the session goes on: {command_line('resume', session.id)}",
        "waiting_input": f"It is heard once its question is answered: {command_line('answer', session.id, 'TEXT')}",
    }.get(session.status, f"It is heard before the next step. To watch: {command_line('watch', session.id)}")
    command_print(console, f"Said. {heard}")


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command(name="say", epilog=EXIT_CODES_HELP)(say)
