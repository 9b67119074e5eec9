"""``archon plan``: looking at plans, and having them as files. What changes them is in ``cli.plan_edits``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import plan_editor, plan_edits, plan_wishes
from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import connection_open
from cli.errors import CliError, errors_reported
from cli.keys import project_find
from cli.plan_api import PlanApi
from cli.plan_common import PlanArgument, ProjectOption, ReasonOption, app, changes_print, file_read
from cli.plan_picture import picture_lines
from cli.plan_resources import PlanProgress, PlanRow
from cli.plan_shown import plan_print
from cli.run import document_print
from cli.sessions import JsonOption, ServerOption
from cli.text import text_clean, text_line

_STATUSES = ("active", "waiting", "done", "failed", "rejected", "withdrawn")
#: What the columns before the summary take.
_OTHER_COLUMNS = 50


@app.command("list")
def plan_list(
    project: ProjectOption = None,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help=f"{', '.join(_STATUSES[:-1])} or {_STATUSES[-1]}."),
    ] = None,
    words: Annotated[str, typer.Option("--words", metavar="TEXT", help="Words of its goal or summary.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100)] = 20,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """List the plans, newest first."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if status not in (None, *_STATUSES):
            next_step = f"name one of {', '.join(_STATUSES)}"
            raise CliError(f"no plan is {status!r}", next_step=next_step, code="invalid_input")
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project) if project else None
            found = PlanApi(connection.api).plans(project_id=project_id, status=status, words=words, limit=limit)
        if json_output:
            document_print({"plans": [_row_document(plan) for plan in found]})
        elif not found:
            command_print(console, f"There are no such plans. A session makes one: {command_line('run', 'GOAL')}")
        else:
            console.print(_table(found, width=console.width))


@app.command("show")
def plan_show(plan: PlanArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Show a plan: its features and tasks, how far each is, what it needs, and what is blocked and why."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = PlanApi(connection.api).find(plan)
        if json_output:
            document_print(found.model_dump(mode="json"))
            return
        plan_print(found, console=console)
        if found.status == "waiting":
            command_print(console, f"\nTo let it be carried out: {command_line('plan', 'approve', found.id[:8])}")


@app.command("diagram")
def plan_diagram(
    plan: PlanArgument,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print the diagram's Mermaid source.")] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Draw which task waits for which."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            found = api.find(plan)
            source = api.mermaid(found.id) if mermaid or json_output else ""
        if json_output:
            document_print({"plan": found.id, "mermaid": source})
        elif mermaid:
            sys.stdout.write(source if source.endswith("\n") else f"{source}\n")
        else:
            _picture_print(found, console=console)


@app.command("history")
def plan_history(plan: PlanArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """List a plan's versions: when each was made, by whom, and why."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            found = api.find(plan)
            versions = api.versions(found.id)
        if json_output:
            document_print({"plan": found.id, "versions": [version.model_dump(mode="json") for version in versions]})
            return
        for version in versions:
            by = version.author_email or version.source.replace("_", " ")
            head = Text.assemble(
                (f"version {version.number}", "bold"), f"  {version.created_at:%Y-%m-%d %H:%M} UTC  {text_clean(by)}"
            )
            console.print(head, soft_wrap=True)
            if version.reason:
                prose_print(console, f"    {text_clean(version.reason)}")
        if len(versions) > 1:
            command = command_line("plan", "diff", found.id[:8], str(versions[1].number), str(versions[0].number))
            command_print(console, f"To see what changed: {command}")


@app.command("diff")
def plan_diff(
    plan: PlanArgument,
    first: Annotated[
        int | None, typer.Argument(metavar="FIRST", min=1, help="Default: the one before LAST.", show_default=False)
    ] = None,
    last: Annotated[
        int | None, typer.Argument(metavar="LAST", min=1, help="Default: the newest.", show_default=False)
    ] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Tell what is different between two versions of a plan."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            found = api.find(plan)
            difference = api.diff(found.id, first=first, last=last)
        if json_output:
            document_print({"plan": found.id, **difference.model_dump(mode="json")})
        else:
            changes_print(difference.text, console=console)


@app.command("export")
def plan_export(
    plan: PlanArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Default: standard output.", show_default=False)
    ] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Write a plan as Markdown, which can be edited and imported again."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            found = api.find(plan)
            markdown = api.markdown(found.id)
        if file is not None:
            try:
                file.write_text(markdown, encoding="utf-8")
            except OSError as error:
                raise CliError(
                    f"{file} can't be written: {error.strerror}", next_step="name another file", code="invalid_input"
                ) from error
        if json_output:
            document_print({"plan": found.id, "version": found.version, "markdown": markdown})
        elif file is None:
            sys.stdout.write(markdown)
        else:
            told = f"Written. To send it back: {command_line('plan', 'import', str(file), '--plan', found.id[:8])}"
            command_print(console, told)


@app.command("import")
def plan_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Markdown; - for standard input.", show_default=False)],
    project: ProjectOption = None,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="Over this plan, as its next version.")
    ] = None,
    newest: Annotated[
        bool, typer.Option("--over-newest", help="Whichever version it was made from: what came since is written over.")
    ] = False,
    goal: Annotated[str, typer.Option("--goal", metavar="TEXT", help="Of a new plan; default: its summary.")] = "",
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Make a plan of Markdown: a new one in a project, or the next version of one. What was begun stays."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if bool(project) == bool(plan):
            raise CliError(
                "it is for a project, or over a plan", next_step="name --project or --plan", code="invalid_input"
            )
        markdown = file_read(file)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            if plan:
                found = api.find(plan)
                plan_id, version = found.id, found.version if newest else None
                api.markdown_put(plan_id, markdown=markdown, version=version, reason=reason)
            else:
                project_id = project_find(connection, str(project))
                plan_id = api.import_new(project_id=project_id, goal=goal, markdown=markdown)
            now = api.progress(plan_id)
        if json_output:
            document_print(now.model_dump(mode="json"))
            return
        told = f"version {now.version} of plan {now.id[:8]}" if plan else f"plan {now.id[:8]}"
        command_print(console, f"Imported as {told}. To see it: {command_line('plan', 'show', now.id[:8])}")


def _picture_print(plan: PlanProgress, *, console: Console) -> None:
    drawn = console.is_terminal
    plain = not drawn or not (console.encoding or "").lower().startswith("utf")
    for line in picture_lines(plan.tasks, width=console.width if drawn else 0, plain=plain):
        console.print(line, soft_wrap=True)


def _row_document(plan: PlanRow) -> dict[str, Any]:
    document = plan.model_dump(mode="json", exclude={"features"})
    return {**document, "done": _done(plan), "total": _total(plan)}


def _done(plan: PlanRow) -> int:
    return plan.statuses.count("done")


def _total(plan: PlanRow) -> int:
    return len(plan.statuses) - plan.statuses.count("skipped")


def _table(found: list[PlanRow], *, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("plan", "status", "version", "done", "made", "summary"):
        table.add_column(column, no_wrap=True)
    for plan in found:
        table.add_row(
            plan.id[:8],
            plan.status,
            str(plan.version),
            f"{_done(plan)}/{_total(plan)}",
            f"{plan.created_at:%Y-%m-%d %H:%M}",
            Text(text_line(plan.summary or plan.goal, width=max(width - _OTHER_COLUMNS, 20))),
        )
    return table


def register(outer: typer.Typer) -> None:
    """Add the group, with the commands of the other modules too, to the application."""
    plan_editor.register(app)
    plan_edits.register(app)
    plan_wishes.register(app)
    outer.add_typer(app, name="plan")
