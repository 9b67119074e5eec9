"""``archon test``, ``archon bench`` and ``archon train``: what developers run, with everything set up first."""

from __future__ import annotations

import os
import sys

import typer

from config.bootstrap import BASE_DIR

#: Everything after the command belongs to the program that it starts.
_PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
#: With one of these the number of processes is decided already, or there is nothing to share out.
_NOT_PARALLEL = ("-n", "--numprocesses", "--pdb", "--collect-only", "--co", "--help", "-h", "--version")


def test(context: typer.Context) -> None:
    """Run the tests. Arguments go to pytest (paths from the checkout's root, --tier for the slow ones)."""
    arguments = list(context.args)
    if not any(
        argument.startswith(("-n", "--numprocesses", "--pdb", "--collect-only", "--co")) for argument in arguments
    ):
        # Tests of one group share something that takes long to start.
        arguments = ["-n", str(min(os.cpu_count() or 2, 8)), "--dist", "loadgroup", *arguments]
    _run_module("pytest", arguments)


def bench(context: typer.Context) -> None:
    """Measure something: archon bench NAME --json."""
    _run_module("benchmarks", list(context.args))


def train(context: typer.Context) -> None:
    """Make the embedder that ships with Archon, or look at how it is made: archon train NAME."""
    _run_module("training", list(context.args))


def register(app: typer.Typer) -> None:
    app.command(context_settings=_PASS_THROUGH)(test)
    app.command(context_settings=_PASS_THROUGH)(bench)
    app.command(context_settings=_PASS_THROUGH)(train)


def _run_module(module: str, arguments: list[str]) -> None:
    os.chdir(BASE_DIR)
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
