"""What the command line says when something is wrong, and the exit codes that it says it with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from cli.text import text_clean

#: The server's checks passed on the final commit.
EXIT_VERIFIED = 0
#: The session failed, or its checks do.
EXIT_FAILED = 1
#: The command was wrong, or something it needs is missing.
EXIT_USAGE = 2
#: The session completed, and there were no checks to tell what it is worth.
EXIT_UNVERIFIED = 3
#: The session waits for an answer that nobody is there to give (``--json``).
EXIT_WAITING = 4
#: The session was cancelled, or the command interrupted.
EXIT_CANCELLED = 130

EXIT_CODES_HELP = (
    "Exit codes: 0 verified (the server ran the checks and they passed), or detached; 1 failed, or its checks fail; "
    "2 wrong usage, or something is missing; 3 completed without a check to vouch for it; "
    "4 paused, or waiting for an answer that nobody here gives; 130 cancelled or interrupted."
)


class CliError(Exception):
    """Something that the person at the terminal has to know; ``next_step`` says what to do about it."""

    def __init__(self, message: str, *, next_step: str = "", code: str = "error") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.code = code

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "next_step": self.next_step}


class ApiError(CliError):
    """The server refused, or did not answer: ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(
        self, message: str, *, next_step: str = "", code: str = "error", status: int = 0, state: str = ""
    ) -> None:
        super().__init__(message, next_step=next_step, code=code)
        self.status = status
        #: What the thing is at that the request conflicts with.
        self.state = state

    @property
    def temporary(self) -> bool:
        """Whether asking again in a moment may do."""
        return self.status in (0, 429, 502, 503, 504)

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), "status": self.status}


def error_print(error: CliError, *, json_output: bool) -> None:
    """Say it: as one JSON document on standard output, or as text on standard error."""
    if json_output:
        sys.stdout.write(json.dumps({"error": error.as_json()}, indent=2) + "\n")
        return
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("Error: ", "bold red"), text_clean(error.message)), soft_wrap=True)
    if error.next_step:
        console.print(Text.assemble(("Next: ", "bold"), text_clean(error.next_step)), soft_wrap=True)


@contextmanager
def errors_reported(*, json_output: bool = False) -> Iterator[None]:
    """Turn what goes wrong inside into a message and an exit code."""
    try:
        yield
    except CliError as error:
        error_print(error, json_output=json_output)
        raise typer.Exit(EXIT_USAGE) from error
    except KeyboardInterrupt:
        error_print(CliError("interrupted", code="interrupted"), json_output=json_output)
        raise typer.Exit(EXIT_CANCELLED) from None


def confirmer_require(*, json_output: bool, next_step: str = "say --yes") -> None:
    """Refuse what has to be confirmed where nobody is at a terminal to do so."""
    if json_output or not sys.stdin.isatty():
        raise CliError("nobody is here to confirm this", next_step=next_step, code="confirmation_needed")
