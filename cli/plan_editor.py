"""``archon plan edit``: a plan as Markdown in the person's own editor, sent when it is closed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import typer
from rich.console import Console

from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import connection_open
from cli.errors import EXIT_USAGE, ApiError, CliError, error_print, errors_reported
from cli.plan_api import PlanApi
from cli.plan_common import PlanArgument, ReasonOption, changes_print
from cli.plan_resources import PlanProgress
from cli.sessions import ServerOption

#: Asked in this order, as other programs do.
_EDITORS = ("VISUAL", "EDITOR")
_DEFAULT = "vi"


def edit(plan: PlanArgument, reason: ReasonOption = "", server: ServerOption = None) -> None:
    """Change a plan in your editor ($VISUAL, $EDITOR). What doesn't hold is told, and nothing you wrote is lost."""
    with errors_reported():
        console = console_make()
        if not sys.stdin.isatty():
            raise CliError(
                "nobody is here to edit it",
                next_step=f"use {command_line('plan', 'export', 'PLAN', 'FILE')} and {command_line('plan', 'import')}",
                code="confirmation_needed",
            )
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            found = api.find(plan)
            _edit(api, found, reason=reason, console=console)


def _edit(api: PlanApi, plan: PlanProgress, *, reason: str, console: Console) -> None:
    markdown = api.markdown(plan.id)
    descriptor, name = tempfile.mkstemp(prefix=f"archon-plan-{plan.id[:8]}-", suffix=".md")
    file = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(markdown)
    is_sent, edits, version = False, True, plan.version
    try:
        while not is_sent:
            if edits:
                _editor_run(file)
            written = file.read_text(encoding="utf-8", errors="replace")
            if written == markdown:
                prose_print(console, "Nothing was changed.")
                is_sent = True
                return
            try:
                api.markdown_put(plan.id, markdown=written, version=version, reason=reason)
                is_sent = True
            except ApiError as error:
                error_print(error, json_output=False)
                edits = _asked(error) == "e"
                version = version if edits else api.progress(plan.id).version
        now = api.progress(plan.id)
        changes_print(api.diff(plan.id, first=plan.version, last=now.version).text, console=console)
        command_print(console, f"Version {now.version}. To see it: {command_line('plan', 'show', plan.id[:8])}")
    finally:
        if is_sent:
            file.unlink(missing_ok=True)
        else:
            command = command_line("plan", "import", str(file), "--plan", plan.id[:8])
            command_print(console, f"What you wrote is in {file}. To send it: {command}")


def _editor_run(file: Path) -> None:
    command = next((value for name in _EDITORS if (value := os.environ.get(name, "").strip())), _DEFAULT)
    try:
        code = subprocess.run([*shlex.split(command), str(file)], check=False).returncode
    except (OSError, ValueError) as error:
        raise CliError(
            f"{command} can't be run: {error}", next_step="set EDITOR to an editor", code="no_editor"
        ) from error
    if code:
        raise CliError(f"{command} ended with exit code {code}", next_step="nothing was sent", code="no_editor")


def _asked(error: ApiError) -> str:
    """How to go on: `e` with editing, `o` over the newest version. Raises where the person leaves."""
    overtaken = error.status == 409 and error.state == "plan_changed"
    choices = "(e)dit again, " + ("write (o)ver the newest version, " if overtaken else "") + "(l)eave"
    answer = str(typer.prompt(choices, default="e", err=True)).strip().lower()[:1]
    if answer == "l":
        raise typer.Exit(EXIT_USAGE)
    return "o" if answer == "o" and overtaken else "e"


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command(name="edit")(edit)
