"""``archon up`` and ``archon down``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli.stack import stack_stop
from cli.stack_runner import StackRunner, StackRunning
from cli.stack_state import StackLayout, StackUnavailable
from config.bootstrap import environment_read, home_path
from integrations.embedded import ServicesUnavailable


def up(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0: all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
) -> None:
    """Run the API, the worker and what they need. Ctrl-C stops all of it."""
    console = Console(highlight=False)

    def report(phase: str) -> None:
        console.print(Text(f"  {phase}" if phase.startswith("the ") else f"• {phase}"), soft_wrap=True)
        if phase.startswith("ready at "):
            _introduce(console, phase.removeprefix("ready at "))

    try:
        home = environment_read()
        runner = StackRunner(home=home, host=host, port=port, detached=False, report=report)
        raise typer.Exit(runner.run())
    except StackRunning as error:
        _fail(error.message, error.next_step, code=1)
    except (StackUnavailable, ServicesUnavailable) as error:
        _fail(error.message, error.next_step, code=2)


def down() -> None:
    """Stop the stack of this checkout, whoever started it."""
    try:
        state = stack_stop(home_path())
    except (StackUnavailable, ServicesUnavailable) as error:
        _fail(error.message, error.next_step, code=2)
    else:
        print("nothing is running" if state is None else f"stopped {state.url or 'the stack'} (pid {state.pid})")


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)


def _introduce(console: Console, url: str) -> None:
    layout = StackLayout(home_path())
    for name, value in (
        ("API", f"{url}/api/"),
        ("Docs", f"{url}/api/docs/"),
        ("Logs", str(layout.logs)),
        ("Key", f"{layout.token} (of the local account)"),
        ("Stop", "Ctrl-C"),
    ):
        console.print(Text.assemble("  ", (f"{name:<6}", "bold"), value), soft_wrap=True)


def _fail(message: str, next_step: str, *, code: int) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)
    if next_step:
        console.print(Text.assemble(("Next: ", "bold"), next_step), soft_wrap=True)
    sys.exit(code)
