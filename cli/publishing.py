"""``archon report``, ``push`` and ``forge``: what a session did, and handing its branch over."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli.client import Api
from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import connection_open
from cli.credentials import token_read
from cli.errors import CliError, errors_reported
from cli.projects import ProjectArgument, project_named
from cli.report_view import report_print
from cli.resources import Forge, Publication
from cli.run import document_print
from cli.sessions import JsonOption, ServerOption, SessionArgument, session_find
from cli.text import text_clean

_POLL_SECONDS = 1.0


def report(
    session: SessionArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the Markdown there.")
    ] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Tell what a session did and why, and what not, fit for a pull request; also while it runs."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            document = connection.api.session_report(found.id)
        text = str(document.get("markdown", ""))
        if output is not None:
            _write(output, text)
        if json_output:
            document_print(document)
        elif output is not None:
            command_print(console, f"Written to {output}")
        elif sys.stdout.isatty():
            report_print(text, console=console)
        else:
            # For a file or another program: as it is, but for what could command a terminal.
            sys.stdout.write(text_clean(text) + "\n")


def push(
    session: SessionArgument,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Open a pull (or merge) request, or bring it up to date.")
    ] = False,
    draft: Annotated[
        bool | None,
        typer.Option("--draft/--no-draft", help="Default: a draft unless the outcome is verified.", show_default=False),
    ] = None,
    branch: Annotated[str, typer.Option("--branch", metavar="NAME", help="On the origin. Default: archon/… .")] = "",
    title: Annotated[str, typer.Option("--title", metavar="T", help="Default: from the goal.")] = "",
    target: Annotated[
        str, typer.Option("--target", metavar="BRANCH", help="Default: the one that the session started from.")
    ] = "",
    allow_failing: Annotated[bool, typer.Option("--allow-failing", help="Although the checks fail.")] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Push a session's branch to where its project's repository was fetched from. Ctrl-C leaves it to the server."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        asked = {
            "pull_request": pull_request,
            "draft": draft,
            "branch": branch,
            "title": title,
            "target": target,
            "allow_failing": allow_failing,
        }
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            publication = connection.api.session_publish(found.id, asked)
            publication = _await(connection.api, found.id, publication, console=console)
        if json_output:
            document_print(publication.model_dump(mode="json"))
            return
        command_print(console, text_clean(f"{publication.branch} is at {publication.commit[:12]} on the origin."))
        if publication.notice:
            prose_print(console, text_clean(publication.notice), style="yellow")
        if publication.url and publication.pull_request:
            command_print(console, text_clean(publication.url))
        elif not publication.pull_request:
            command_print(console, f"To open a pull request: {command_line('push', found.id, '--pull-request')}")


def forge(
    project: ProjectArgument,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="github, gitlab or gitea (also for Forgejo).")
    ] = None,
    api_url: Annotated[
        str | None, typer.Option("--api-url", metavar="URL", help="Of its API, where that isn't at its usual place.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Holds a token that may open pull requests; -: standard input.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget all of it, the token too.")] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Show or say where a project's pull requests are opened, and with which token."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        token = token_read(token_file) if token_file is not None else None
        with connection_open(server, console=console) as connection:
            found = project_named(connection.api, project)
            now = connection.api.forge_get(found.id)
            if reset:
                now = connection.api.forge_put(found.id, {"kind": "", "api_url": "", "token": ""})
            if kind is not None or api_url is not None or token is not None:
                fields = {
                    "kind": now.kind if kind is None else kind,
                    "api_url": now.api_url if api_url is None else api_url,
                }
                now = connection.api.forge_put(found.id, fields if token is None else {**fields, "token": token})
        if json_output:
            document_print(now.model_dump(mode="json"))
        else:
            _forge_tell(now, console=console)


def _await(api: Api, session_id: str, publication: Publication, *, console: Console) -> Publication:
    """Wait for the worker; CliError when it could not be done."""
    told = ""
    with console.status("pushing") as status:
        while publication.state in ("wanted", "running"):
            text = "pushing"
            if publication.state == "wanted" and publication.reason is not None:
                text = text_clean(f"waiting to try again: {publication.reason.message}")
            if text != told:
                status.update(Text(text))
                if not console.is_terminal and publication.reason is not None:
                    console.print(Text(text), soft_wrap=True)
                told = text
            time.sleep(_POLL_SECONDS)
            publication = api.publication_get(session_id)
    if publication.state == "failed":
        reason = publication.reason
        raise CliError(
            text_clean(reason.message if reason else "the branch could not be pushed"),
            next_step=text_clean(reason.next_step if reason else ""),
            code=(reason.code if reason else "") or "publish_failed",
        )
    return publication


def _forge_tell(now: Forge, *, console: Console) -> None:
    if now.problem:
        prose_print(console, text_clean(f"No pull request can be opened: {now.problem}"), style="yellow")
        if now.next_step:
            prose_print(console, f"Next: {text_clean(now.next_step)}")
        return
    whose = {"project": "a token of its own", "source": "the token that the repository is fetched with"}
    command_print(
        console,
        text_clean(
            f"{now.repository} on {now.effective_kind}, {now.effective_api_url}, with {whose.get(now.token_from, '')}"
        ),
    )


def _write(path: Path, text: str) -> None:
    try:
        path.expanduser().write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise CliError(
            f"{path} can't be written: {error.strerror}", next_step="check the path", code="invalid_input"
        ) from None


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    for command in (report, push, forge):
        app.command()(command)
