"""How the command line calls itself, for what it tells people to type; and the console it speaks through."""

from __future__ import annotations

import io
import os
import shlex
import sys
from contextvars import ContextVar
from pathlib import Path

from rich.console import Console
from rich.text import Text

CHECKOUT = Path(__file__).resolve().parent.parent

#: The server that was named with ``--server``: what people are told to type has to name it again.
server_named: ContextVar[str] = ContextVar("server_named", default="")
_THIS_MACHINE = ("up", "down", "doctor")


def command_line(*arguments: str) -> str:
    """The command with these arguments, ready to be pasted where the user is now."""
    launcher = CHECKOUT / "archon"
    if server_named.get() and arguments[0] not in _THIS_MACHINE:
        arguments = (*arguments, "--server", server_named.get())
    name = "./archon" if Path(os.getcwd()) == CHECKOUT or not launcher.exists() else shlex.quote(str(launcher))
    return " ".join([name, *(argument if argument.isupper() else shlex.quote(argument) for argument in arguments)])


def console_make(*, json_output: bool = False) -> Console:
    """For people: standard output, or standard error when the former carries a document."""
    stream = sys.stderr if json_output else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        # A terminal that lacks a character shows a substitute rather than a traceback.
        stream.reconfigure(errors="replace")
    return Console(file=stream, highlight=False)


def prose_print(console: Console, text: str, *, style: str = "") -> None:
    """Sentences: wrapped between words on a terminal, left on one line for whatever else reads them."""
    console.print(Text(text, style=style), soft_wrap=not console.is_terminal)


def command_print(console: Console, text: str, *, style: str = "") -> None:
    """Something to be copied: never broken by us."""
    console.print(Text(text, style=style), soft_wrap=True)
