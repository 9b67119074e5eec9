"""What a command line calls: only a plain call counts, nothing that a shell takes apart."""

from __future__ import annotations

import re
import shlex

_SHELL_SYNTAX = re.compile(r"[|&;<>()$`\\\n*?\[\]{}~#]|\b\w+=")


def command_words(command: str) -> list[str]:
    """The arguments of a plain command; empty when a shell is needed to understand it."""
    # Brackets and the like are meant for the shell, unless they are quoted.
    if _SHELL_SYNTAX.search(re.sub(r"'[^']*'", "", command)):
        return []
    try:
        return shlex.split(command)
    except ValueError:
        return []
