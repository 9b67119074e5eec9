"""``archon models``: what there is to choose from, and what is still to be set."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.command import command_print, console_make, prose_print
from cli.connection import connection_open
from cli.errors import errors_reported
from cli.keys import ProjectOption, project_find
from cli.resources import Catalogue, KnownModel, RoleDefault, VendorState
from cli.run import document_print
from cli.text import text_clean

_WIDE = 200


def models(
    vendor: Annotated[
        str | None, typer.Argument(metavar="[VENDOR]", help="List this provider's models.", show_default=False)
    ] = None,
    project: ProjectOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
    ] = None,
) -> None:
    """Tell which models can be called: defaults by role, providers and keys; with VENDOR, its models and prices."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            project_id = project_find(connection, project) if project else ""
            found = connection.api.models_get(project_id=project_id, vendor=vendor or "")
        if json_output:
            document_print(found.model_dump(mode="json"))
        elif vendor:
            _vendor_print(found.vendors[0], console=console)
        else:
            _catalogue_print(found, console=console)


def _catalogue_print(found: Catalogue, *, console: Console) -> None:
    defaults = _table("role", "model", "options", "fallbacks")
    for role, default in found.defaults.items():
        model = Text(_reference(default)) if default.configured else Text(_reference(default) or "none", style="red")
        defaults.add_row(role, model, _options(default), ", ".join(default.fallbacks or ()))
    console.print(defaults)
    for problem in dict.fromkeys((one.problem, one.next_step) for one in found.defaults.values() if one.problem):
        prose_print(console, text_clean(problem[0]), style="red")
        prose_print(console, f"Next: {text_clean(problem[1])}")
    console.print()
    vendors = _table("provider", "key", "models", "address")
    for vendor in found.vendors:
        if vendor.configured:
            key = Text(vendor.key or ("needs none" if vendor.local else "none"), style="green")
        else:
            key = Text("not allowed" if vendor.local else "missing", style="dim")
        vendors.add_row(vendor.name, key, str(len(vendor.models) or ""), text_clean(vendor.base_url))
    console.print(vendors)
    if found.addresses:
        prose_print(
            console, f"Other addresses that may be named: {text_clean(', '.join(found.addresses))}", style="dim"
        )
    command_print(console, "Models and prices of a provider: archon models VENDOR", style="dim")


def _vendor_print(vendor: VendorState, *, console: Console) -> None:
    prose_print(console, f"{text_clean(vendor.title)} at {text_clean(vendor.base_url)}", style="bold")
    if not vendor.configured:
        prose_print(console, f"Not configured. Next: {text_clean(vendor.next_step)}", style="yellow")
    if not vendor.models:
        prose_print(console, "No list of its models is known here; any name that it has can be used.")
        return
    table = _table("model", "context", "$/M in", "cached", "out", "images", "tool calls")
    for column in table.columns[1:5]:
        column.justify = "right"
    for model in vendor.models:
        table.add_row(*_model_cells(model))
    # To other programs a name in one piece.
    console.print(table, width=None if console.is_terminal else _WIDE)


def _model_cells(model: KnownModel) -> tuple[str, ...]:
    prices = (model.input_usd, model.cached_input_usd, model.output_usd)
    return (
        text_clean(model.name),
        f"{model.context_tokens:,}",
        *("" if price is None else f"{price:g}" for price in prices),
        "yes" if model.vision else "",
        model.tool_calls,
    )


def _reference(default: RoleDefault) -> str:
    return text_clean(f"{default.model}@{default.base_url}" if default.base_url else default.model)


def _options(default: RoleDefault) -> str:
    said = {
        "effort": default.effort,
        "temperature": default.temperature,
        "tool calls": default.tool_calls,
        "edits": default.edit_format,
    }
    return ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command(name="models")(models)
