"""``archon rules``: what agents may do, must ask for, and never do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import Connection, connection_open
from cli.errors import CliError, errors_reported
from cli.keys import project_find
from cli.resources import Rule
from cli.run import document_print
from cli.text import text_clean

ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="PROJECT", help="A project: its id, its name, or the repository that it was made from."
    ),
]
ToolOption = Annotated[str | None, typer.Option("--tool", metavar="PATTERN", help="As run_command, git_* or *_file.")]
PathOption = Annotated[str | None, typer.Option("--path", metavar="PATTERN", help="As '*.pem', 'src/**/*.py'.")]
CommandOption = Annotated[
    str | None, typer.Option("--command", metavar="PATTERN", help="One command, as 'git push *'; * is any text.")
]
RiskOption = Annotated[
    str | None,
    typer.Option(
        "--risk", metavar="RISK", help="read, write, delete, network, install, git_history, execute or unknown."
    ),
]
MinutesOption = Annotated[
    int | None, typer.Option("--minutes", metavar="N", min=0, help="Holds for so long; 0: until it is removed.")
]
NoteOption = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why; the agent is told it.")]
RuleArgument = Annotated[
    str, typer.Argument(metavar="RULE", help="The rule's id, or the beginning of it.", show_default=False)
]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

_app = typer.Typer(
    help="Rules: calls that agents may make, must ask for, or never make.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@_app.command("list")
def rule_list(project: ProjectOption = None, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """List the rules that your sessions go by."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project) if project else ""
            found = connection.api.rule_list(project_id=project_id)
        if json_output:
            document_print({"rules": [rule.model_dump(mode="json") for rule in found]})
        elif not found:
            example = command_line("rules", "add", "deny", "--project", "PROJECT", "--path", "'*.pem'")
            command_print(console, f"There are no rules. To make one: {example}")
        else:
            console.print(_table(found))


@_app.command("add")
def rule_add(
    effect: Annotated[str, typer.Argument(metavar="EFFECT", help="allow, ask or deny.", show_default=False)],
    project: ProjectOption = None,
    server_wide: Annotated[
        bool, typer.Option("--server-wide", help="For every project on the server; needs staff.")
    ] = False,
    tool: ToolOption = None,
    path: PathOption = None,
    command: CommandOption = None,
    risk: RiskOption = None,
    minutes: MinutesOption = None,
    note: NoteOption = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Allow, ask for or deny calls of a kind from now on. All conditions that are given have to hold."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if bool(project) == server_wide:
            raise CliError(
                "a rule is for a project or for the whole server",
                next_step="name --project PROJECT (or --server-wide)",
                code="invalid_input",
            )
        fields = _fields(effect=effect, tool=tool, path=path, command=command, risk=risk, minutes=minutes, note=note)
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project) if project else None
            rule = connection.api.rule_create({"project": project_id, **fields})
        _tell(rule, "Made", json_output=json_output)


@_app.command("edit")
def rule_edit(
    rule: RuleArgument,
    effect: Annotated[str | None, typer.Option("--effect", metavar="EFFECT", help="allow, ask or deny.")] = None,
    tool: ToolOption = None,
    path: PathOption = None,
    command: CommandOption = None,
    risk: RiskOption = None,
    minutes: MinutesOption = None,
    note: NoteOption = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Change what is given of a rule; an empty text takes a condition away."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        fields = _fields(effect=effect, tool=tool, path=path, command=command, risk=risk, minutes=minutes, note=note)
        if not fields:
            raise CliError("nothing is to be changed", next_step="name what is", code="invalid_input")
        with connection_open(server, console=console) as connection:
            found = _rule_find(connection, rule)
            changed = connection.api.rule_update(found.id, fields)
        _tell(changed, "Changed", json_output=json_output)


@_app.command("remove")
def rule_remove(rule: RuleArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Forget a rule."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = _rule_find(connection, rule)
            connection.api.rule_delete(found.id)
        if json_output:
            document_print({"removed": found.id})
        else:
            prose_print(console, "Removed.")


def _fields(*, minutes: int | None, **texts: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {name: value for name, value in texts.items() if value is not None}
    if minutes is not None:
        until = datetime.now(UTC) + timedelta(minutes=minutes)
        fields["expires_at"] = until.isoformat() if minutes else None
    return fields


def _rule_find(connection: Connection, reference: str) -> Rule:
    wanted = reference.strip().lower()
    found = [rule for rule in connection.api.rule_list() if rule.id.startswith(wanted)] if len(wanted) >= 4 else []
    if len(found) != 1:
        problem = "is the beginning of several rules" if found else "is no rule that you may know of"
        raise CliError(f"{reference!r} {problem}", next_step=f"see {command_line('rules', 'list')}", code="not_found")
    return found[0]


def _tell(rule: Rule, done: str, *, json_output: bool) -> None:
    if json_output:
        document_print(rule.model_dump(mode="json"))
        return
    console = console_make(json_output=False)
    until = f", until {rule.expires_at:%Y-%m-%d %H:%M} UTC" if rule.expires_at else ""
    prose_print(console, f"{done}: {rule.effect} {text_clean(_conditions(rule))}{until} ({rule.id[:8]})")


def _conditions(rule: Rule) -> str:
    named = {"tool": rule.tool, "path": rule.path, "command": rule.command, "risk": rule.risk}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value)


def _table(found: list[Rule]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("rule", "effect", "when", "project", "until", "note"):
        table.add_column(column, overflow="fold")
    for rule in found:
        until = f"{rule.expires_at:%Y-%m-%d %H:%M}" if rule.expires_at else ""
        past = rule.expires_at is not None and rule.expires_at <= datetime.now(UTC)
        table.add_row(
            rule.id[:8],
            rule.effect,
            Text(text_clean(_conditions(rule))),
            (rule.project or "all")[:8],
            Text(f"{until} (past)" if past else until, style="dim" if past else ""),
            Text(text_clean(rule.note)),
        )
    return table


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.add_typer(_app, name="rules")
