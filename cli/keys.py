"""``archon keys``: keys of providers that the server keeps, for oneself, a project or everybody on it."""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import Connection, connection_open
from cli.errors import EXIT_FAILED, CliError, errors_reported
from cli.registry import ProjectRegistry
from cli.resources import ProviderKey
from cli.run import document_print
from cli.text import text_clean

ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="PROJECT", help="A project: its id, its name, or the repository that it was made from."
    ),
]
ServerWideOption = Annotated[bool, typer.Option("--server-wide", help="For everybody on the server; needs staff.")]
BaseUrlOption = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="Another address than the provider's own; has to be allowed."),
]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
VendorArgument = Annotated[
    str, typer.Argument(metavar="VENDOR", help="openai, anthropic, gemini, openrouter, …", show_default=False)
]
KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="The key's id, the beginning of it, or its provider where that is clear.",
        show_default=False,
    ),
]

#: Seconds; the server gives a test up a little earlier.
_TEST_PATIENCE = 75.0
_TEST_PAUSE = 0.5

_app = typer.Typer(
    help="Keys of providers that the server keeps, encrypted: yours, a project's, or the whole server's.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@_app.command("list")
def key_list(project: ProjectOption = None, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """List the keys that you may know of; never the secrets."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project) if project else ""
            found = connection.api.key_list(project_id=project_id)
        if json_output:
            document_print({"keys": [key.model_dump(mode="json") for key in found]})
        elif not found:
            command_print(console, f"There are no stored keys. To store one: {command_line('keys', 'set', 'VENDOR')}")
        else:
            console.print(_table(found))


@_app.command("set")
def key_set(
    vendor: VendorArgument,
    base_url: BaseUrlOption = None,
    project: ProjectOption = None,
    server_wide: ServerWideOption = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Store a key: asked for at the terminal, or read from standard input. It takes the place of an older one."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if project and server_wide:
            raise CliError(
                "a key is for a project or for the whole server", next_step="name one of them", code="invalid_input"
            )
        secret = _secret_read(vendor)
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project) if project else ""
            key = connection.api.key_store(
                scope="project" if project else "server" if server_wide else "user",
                project_id=project_id,
                vendor=vendor,
                base_url=base_url or "",
                secret=secret,
            )
        if json_output:
            document_print(key.model_dump(mode="json"))
            return
        whose = {"project": "the project's sessions", "server": "all sessions on the server"}
        text = f"Stored for {whose.get(key.scope, 'your sessions')}; it goes to {key.address} and nowhere else."
        prose_print(console, text_clean(text))
        command_print(console, f"To try it: {command_line('keys', 'test', key.id[:8])}")


@_app.command("test")
def key_test(
    key: KeyArgument,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="A model that the provider has to have.")
    ] = None,
    project: ProjectOption = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Have the server's worker try a key. Costs nothing. Exit code 1: it is no good."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = _key_find(connection, key, project)
            tested = connection.api.key_test(found.id, model=model or "")
            deadline = time.monotonic() + _TEST_PATIENCE
            while tested.test_state == "pending" and time.monotonic() < deadline:
                time.sleep(_TEST_PAUSE)
                tested = connection.api.key_get(found.id)
        if json_output:
            document_print(tested.model_dump(mode="json"))
        else:
            _test_print(tested, console=console)
        if tested.test_state != "good":
            raise typer.Exit(EXIT_FAILED)


@_app.command("remove")
def key_remove(
    key: KeyArgument, project: ProjectOption = None, json_output: JsonOption = False, server: ServerOption = None
) -> None:
    """Have the server forget a key."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = _key_find(connection, key, project)
            connection.api.key_delete(found.id)
        if json_output:
            document_print({"removed": found.id})
        else:
            prose_print(console, f"Removed the {text_clean(found.vendor)} key of scope {found.scope}.")


def project_find(connection: Connection, reference: str) -> str:
    """The id of a project: as it is, by the repository that it was made from here, or by its name."""
    try:
        return str(uuid.UUID(reference))
    except ValueError:
        pass
    path = Path(reference).expanduser()
    if path.is_dir():
        known = ProjectRegistry(connection.home).project_id(server=connection.server, repository=path.resolve())
        if known is not None:
            return known
    found = [project for project in connection.api.project_list() if project.name == reference]
    if len(found) != 1:
        problem = f"{len(found)} projects have this name" if found else "no project has this name or repository"
        raise CliError(
            f"{reference!r}: {problem}",
            next_step=f"see {command_line('projects')}, and name it by its id",
            code="not_found",
        )
    return found[0].id


def _key_find(connection: Connection, reference: str, project: str | None) -> ProviderKey:
    project_id = project_find(connection, project) if project else ""
    keys = [key for key in connection.api.key_list(project_id=project_id) if not project or key.project == project_id]
    wanted = reference.strip().lower()
    found = [key for key in keys if key.id == wanted] or [
        key for key in keys if key.vendor == wanted or (len(wanted) >= 4 and key.id.startswith(wanted))
    ]
    if len(found) != 1:
        problem = "is the name of several keys" if found else "is no key that you may know of"
        raise CliError(f"{reference!r} {problem}", next_step=f"see {command_line('keys', 'list')}", code="not_found")
    return found[0]


def _secret_read(vendor: str) -> str:
    """From the terminal without showing it, or the first line of standard input. Never from an argument."""
    if sys.stdin.isatty():
        secret: str = typer.prompt(f"The {text_clean(vendor)} key (not shown)", hide_input=True, err=True)
    else:
        secret = sys.stdin.readline()
    secret = secret.strip()
    if not secret:
        raise CliError(
            "no key came",
            next_step=f"type it when asked, or send it: {command_line('keys', 'set', 'VENDOR')} < FILE",
            code="invalid_input",
        )
    return secret


def _test_print(key: ProviderKey, *, console: Console) -> None:
    styles = {"good": "green", "bad": "red"}
    state = key.test_state if key.test_state != "pending" else "still being tried"
    console.print(Text.assemble((state, styles.get(key.test_state, "yellow")), f": {text_clean(key.test_message)}"))
    if key.test_next_step:
        prose_print(console, f"Next: {text_clean(key.test_next_step)}")


def _table(found: list[ProviderKey]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("key", "provider", "scope", "project", "ends in", "tested", "goes to"):
        table.add_column(column, overflow="fold")
    for key in found:
        table.add_row(
            key.id[:8],
            key.vendor,
            key.scope,
            (key.project or "")[:8],
            key.hint,
            key.test_state,
            text_clean(key.address),
        )
    return table


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.add_typer(_app, name="keys")
