"""The ``archon`` command: which module has which command.

A module is imported when its command is called (or when help is asked for), so that none pays for the others. It has a
function ``register(app)`` that adds its commands.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

import typer

#: The module of every command, in the order in which help lists them.
MODULES: dict[str, str] = {
    "demo": "cli.demo",
    "run": "cli.run",
    "say": "cli.say",
    "models": "cli.models",
    "agents": "cli.agents",
    "keys": "cli.keys",
    "usage": "cli.spending",
    "limits": "cli.spending",
    "secrets": "cli.secrets",
    "up": "cli.stack_commands",
    "down": "cli.stack_commands",
    "doctor": "cli.doctor",
    **dict.fromkeys(
        (
            "sessions",
            "show",
            "watch",
            "answer",
            "pause",
            "resume",
            "cancel",
            "diff",
            "fetch",
            "merge",
            "rebase",
            "discard",
        ),
        "cli.sessions",
    ),
    **dict.fromkeys(("report", "push", "forge"), "cli.publishing"),
    **dict.fromkeys(("approve", "autonomy"), "cli.approval"),
    "rules": "cli.rules",
    "plan": "cli.plan",
    **dict.fromkeys(("steps", "rewind"), "cli.control"),
    "apply": "cli.apply",
    **dict.fromkeys(("projects", "clone", "sync", "remove"), "cli.projects"),
    **dict.fromkeys(("instructions", "preferences"), "cli.instructions"),
    **dict.fromkeys(("index", "search"), "cli.code"),
    "test": "cli.development",
    "bench": "cli.development",
    "train": "cli.development",
}
_HELP = "Archon, a self-hosted backend for autonomous coding agents."


def run(arguments: list[str]) -> None:
    """Run the command that the arguments name; ends the process with its exit code."""
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    modules = [MODULES[name]] if name in MODULES else MODULES.values()
    app_make(modules)(args=arguments, prog_name="archon")


def app_make(modules: Iterable[str]) -> typer.Typer:
    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # With a callback the app stays a group of commands, even with one command in it.
    app.callback()(_nothing)
    for module in dict.fromkeys(modules):
        importlib.import_module(module).register(app)
    return app


def _nothing() -> None:
    """Archon, a self-hosted backend for autonomous coding agents."""


if __name__ == "__main__":
    run(sys.argv[1:])
