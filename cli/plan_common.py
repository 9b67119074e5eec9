"""What the commands of ``archon plan`` share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli.command import prose_print
from cli.errors import CliError
from cli.text import text_clean

PlanArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLAN", help="The plan's id, or its session's, or enough of its beginning.", show_default=False
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the version.")]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="PROJECT", help="A project: its id, its name, or the repository that it was made from."
    ),
]
#: Of a plan that is read from a file.
LARGEST = 1_500_000

app = typer.Typer(
    help="Plans: what is to be done, how far it is, and what should be done otherwise.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def changes_print(text: str, *, console: Console) -> None:
    """A difference in words: what was added and removed in colour."""
    styles = {"+": "green", "-": "red", "~": "cyan", ">": "cyan"}
    if not text:
        prose_print(console, "There is no difference.")
    for line in text.splitlines():
        console.print(Text(text_clean(line), style=styles.get(line.strip()[:1], "")), soft_wrap=True)


def file_read(file: Path) -> str:
    """The text of a file, or of standard input."""
    try:
        data = sys.stdin.buffer.read(LARGEST + 1) if str(file) == "-" else file.read_bytes()
        text = data.decode()
    except OSError as error:
        raise CliError(
            f"{file} can't be read: {error.strerror}", next_step="name a file that is there", code="invalid_input"
        ) from error
    except UnicodeDecodeError as error:
        raise CliError(f"{file} is no text in UTF-8", next_step="save it as UTF-8", code="invalid_input") from error
    if len(data) > LARGEST:
        raise CliError(f"{file} is too large for a plan", next_step="leave something out", code="invalid_input")
    return text
