"""``archon usage`` and ``archon limits``: who spent what, and what projects and users may spend."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import Connection, connection_open
from cli.errors import CliError, errors_reported
from cli.keys import JsonOption, ProjectOption, ServerOption, project_find
from cli.resources import Allowance, SpendingLimits, Spent, UsageRow
from cli.run import document_print
from cli.text import money_format, text_clean

#: Takes a limit away.
NONE = "none"

UserOption = Annotated[
    str | None, typer.Option("--user", metavar="USER", help="A user's id; administrators alone, but for their own.")
]

_app = typer.Typer(
    help="What the sessions of a project or a user may spend together: in all, a day, and how many may be at once.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _limit_option(name: str, what: str) -> Any:
    return typer.Option(name, metavar="AMOUNT", help=f"{what}; `{NONE}`: no limit.")


def usage(
    by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help="session, project, user, day, model, or all for one row.")
    ] = "project",
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="The first day (UTC), as 2026-01-31.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The last day (UTC).")] = None,
    project: ProjectOption = None,
    user: UserOption = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Tell what was spent in your projects and by you; the dearest first, days from the newest."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project) if project else None
            rows = connection.api.usage_list(by=by, first=first, last=last, project_id=project_id, user_id=user)
        if json_output:
            document_print({"usage": [row.model_dump(mode="json") for row in rows]})
        elif not rows:
            prose_print(console, "Nothing was spent.")
        else:
            console.print(_usage_table(by, rows))


@_app.command("show")
def limits_show(
    project: ProjectOption = None, user: UserOption = None, json_output: JsonOption = False, server: ServerOption = None
) -> None:
    """Show limits and what is spent of them: of a project or a user, your own where none is named."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = connection.api.limits_get(*_owner(connection, project, user))
        if json_output:
            document_print(found.model_dump(mode="json"))
        else:
            _limits_print(found, console=console)


@_app.command("set")
def limits_set(
    project: ProjectOption = None,
    user: UserOption = None,
    cost_usd: Annotated[str | None, _limit_option("--cost-usd", "US dollars, in all")] = None,
    tokens: Annotated[str | None, _limit_option("--tokens", "Tokens, in all")] = None,
    steps: Annotated[str | None, _limit_option("--steps", "Calls of models, in all")] = None,
    day_cost_usd: Annotated[str | None, _limit_option("--day-cost-usd", "US dollars a day")] = None,
    day_tokens: Annotated[str | None, _limit_option("--day-tokens", "Tokens a day")] = None,
    day_steps: Annotated[str | None, _limit_option("--day-steps", "Calls of models a day")] = None,
    sessions: Annotated[str | None, _limit_option("--sessions", "Sessions at work at once")] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Set limits of a project (its owners) or a user (administrators); what is not named stays as it is."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        total = {"cost_usd": cost_usd, "tokens": tokens, "steps": steps}
        day = {"cost_usd": day_cost_usd, "tokens": day_tokens, "steps": day_steps}
        if all(value is None for value in (*total.values(), *day.values(), sessions)):
            raise CliError("no limit is named", next_step="name one, as --day-cost-usd 20", code="invalid_input")
        with connection_open(server, console=console) as connection:
            scope, owner_id = _owner(connection, project, user)
            present = connection.api.limits_get(scope, owner_id)
            body = {
                "total": _merged(present.total.limits, total),
                "day": _merged(present.day.limits, day),
                "sessions": present.sessions if sessions is None else _amount("sessions", sessions),
            }
            found = connection.api.limits_put(scope, owner_id, body)
        if json_output:
            document_print(found.model_dump(mode="json"))
        else:
            _limits_print(found, console=console)


def _owner(connection: Connection, project: str | None, user: str | None) -> tuple[str, str]:
    if project and user:
        raise CliError("limits are of a project or of a user", next_step="name one of them", code="invalid_input")
    if project:
        return "project", project_find(connection, project)
    return "user", user or connection.api.me().id


def _merged(present: SpendingLimits, given: dict[str, str | None]) -> dict[str, float | int | str | None]:
    kept: dict[str, float | int | str | None] = present.model_dump()
    return kept | {name: _amount(name, value) for name, value in given.items() if value is not None}


def _amount(name: str, text: str) -> int | str | None:
    if text.strip().lower() == NONE:
        return None
    digits = text.strip().replace("_", "").replace(",", "")
    if name == "cost_usd":
        digits = digits.removeprefix("$")
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?" if name == "cost_usd" else r"[0-9]{1,15}", digits):
        form = "an amount such as 20 or 0.50" if name == "cost_usd" else "a whole number"
        raise CliError(f"{text!r} is no limit of {name}", next_step=f"write {form}, or {NONE}", code="invalid_input")
    # The server reads dollars: they don't go by way of a binary fraction.
    return digits if name == "cost_usd" else int(digits)


def _usage_table(by: str, rows: list[UsageRow]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(by, overflow="fold")
    for name in ("calls", "failed", "tokens in", "cached", "out", "cost"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            text_clean(row.name or row.key) or "(gone)",
            f"{row.calls:,}",
            f"{row.failed:,}" if row.failed else "",
            f"{row.input_tokens:,}",
            f"{row.cached_tokens:,}" if row.cached_tokens else "",
            f"{row.output_tokens:,}",
            money_format(row.cost_usd, priced=row.priced),
        )
    return table


def _limits_print(found: Allowance, *, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("", "limit", "spent", "held"):
        table.add_column(name, justify="left" if not name else "right")
    for title, period in (("in all", found.total), ("today (UTC)", found.day)):
        for unit, words in (("cost_usd", "US dollars"), ("tokens", "tokens"), ("steps", "calls of models")):
            table.add_row(f"{words}, {title}", *_cells(period.limits, period.spent, unit))
    table.add_row("sessions at once", _shown(found.sessions) if found.sessions is not None else "the server's", "", "")
    console.print(table)
    command_print(
        console,
        f"To set one: {command_line('limits', 'set', f'--{found.scope}', found.id)} --day-cost-usd AMOUNT",
        style="dim",
    )


def _cells(limits: SpendingLimits, spent: Spent, unit: str) -> tuple[str, str, str]:
    values = (getattr(limits, unit), getattr(spent, unit), getattr(spent, f"reserved_{unit}"))
    return (_shown(values[0]), _shown(values[1]), _shown(values[2]) if values[2] else "")


def _shown(value: float | int | None) -> str:
    if value is None:
        return NONE
    return money_format(value) if isinstance(value, float) else f"{value:,}"


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.command(name="usage")(usage)
    app.add_typer(_app, name="limits")
