"""``archon agents``: what a project's agents are, by role, and what is different about them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import connection_open
from cli.errors import CliError, errors_reported
from cli.keys import project_find
from cli.resources import AgentProfile
from cli.run import document_print
from cli.text import text_clean

_NUMBERS = ("steps", "tokens", "seconds")


def agents(
    project: Annotated[
        str,
        typer.Argument(
            metavar="PROJECT",
            help="Its id, its name, or the repository that it was made from.",
            show_default=False,
        ),
    ],
    role: Annotated[
        str | None,
        typer.Argument(metavar="[ROLE]", help="planner, coder, reviewer or researcher.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Replies of its model, for one piece of work.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", metavar="N", min=1, help="Tokens, for one piece of work.")
    ] = None,
    seconds: Annotated[
        int | None, typer.Option("--seconds", metavar="N", min=1, help="Seconds, for one piece of work.")
    ] = None,
    instructions: Annotated[
        str | None,
        typer.Option("--instructions", metavar="FILE|-", help="Added to its prompt; an empty file takes it away."),
    ] = None,
    tools_off: Annotated[
        str | None,
        typer.Option("--tools-off", metavar="NAME,…", help="Tools that it doesn't get; empty text gives them back."),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option("--threshold", metavar="SEVERITY", help="Of the reviewer: from here on findings go back."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", metavar="N", min=0, help="Of the reviewer: so often, before you are asked."),
    ] = None,
    usual: Annotated[bool, typer.Option("--usual", help="Forget first what was said of the role.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
    ] = None,
) -> None:
    """Show what agents of each role are in a project; with ROLE and options, change that for its later sessions."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        said: dict[str, Any] = {
            "steps": steps,
            "tokens": tokens,
            "seconds": seconds,
            "instructions": None if instructions is None else _read(instructions),
            "tools_off": None if tools_off is None else [name for name in map(str.strip, tools_off.split(",")) if name],
            "threshold": threshold,
            "rounds": rounds,
        }
        changes = {name: value for name, value in said.items() if value is not None}
        if (changes or usual) and role is None:
            raise CliError("whose?", next_step="name the role as well: planner, coder, …", code="invalid_input")
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project)
            if role is not None and (changes or usual):
                known = connection.api.project_get(project_id).agents
                own = {} if usual else known.get(role, {})
                connection.api.project_update(project_id, {"agents": {**known, role: {**own, **changes}}})
            found = connection.api.agent_profiles(project_id=project_id)
        shown = [each for each in found if role in (None, each.role)]
        if not shown:
            known_roles = ", ".join(each.role for each in found)
            raise CliError(f"there is no role {role!r}", next_step=f"roles are {known_roles}", code="invalid_input")
        if json_output:
            document_print({"agents": [each.model_dump(mode="json", exclude_none=True) for each in shown]})
        elif role is None:
            _table_print(shown, console=console)
            command_print(console, f"What they call: {command_line('models', '--project', project)}", style="dim")
        else:
            _profile_print(shown[0], console=console)


def _read(place: str) -> str:
    try:
        return sys.stdin.read() if place == "-" else Path(place).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{place} can't be read: {error}", code="invalid_input") from error


def _table_print(profiles: list[AgentProfile], *, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("role", *_NUMBERS, "instructions", "without"):
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    for each in profiles:
        lines = len(each.instructions.splitlines())
        table.add_row(
            each.role,
            *(f"{getattr(each, name):,}" for name in _NUMBERS),
            f"{lines} line{'' if lines == 1 else 's'}" if lines else "",
            Text(text_clean(", ".join(each.tools_off))),
        )
    console.print(table)


def _profile_print(profile: AgentProfile, *, console: Console) -> None:
    numbers = ", ".join(f"{getattr(profile, name):,} {name}" for name in _NUMBERS)
    prose_print(console, f"{profile.role}: prompt {profile.prompt}; for one piece of work at most {numbers}.")
    if profile.rounds is not None:
        prose_print(
            console,
            f"Findings from {profile.threshold} on go back to the coder, {profile.rounds} times before you are asked.",
        )
    prose_print(console, f"Tools: {text_clean(', '.join(profile.tools))}")
    if profile.tools_off:
        prose_print(console, f"Taken away: {text_clean(', '.join(profile.tools_off))}")
    if profile.instructions:
        prose_print(console, "Added to its prompt:")
        console.print(Text(text_clean(profile.instructions.rstrip())))


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(agents)
