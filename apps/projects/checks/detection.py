"""Which checks a checkout has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from apps.projects.checks.types import CheckSpec, Runner
from apps.projects.environment.python_tests import python_tests_find

_SHELL_SYNTAX = re.compile(r"[|&;<>()$`\\\n*?\[\]{}~#]|\b\w+=")
_MAX_NAME = 80


def checks_detect(*, checkout: Path, commands: Sequence[str] = (), folder: str = "") -> tuple[CheckSpec, ...]:
    """The given commands, or else what runs the tests that are there; none when there are none.

    ``folder``: the project is in that folder of the checkout; commands run there, and nothing else is looked for.
    """
    if folder:
        inner = checks_detect(checkout=checkout / folder, commands=commands)
        return tuple(
            replace(spec, command=f"cd -- {shlex.quote(folder)} && {spec.command}", runner="command") for spec in inner
        )
    given = [command.strip() for command in commands if command.strip()]
    if given:
        return tuple(CheckSpec(name, command, command_runner(command)) for name, command in _named(given))
    tests = python_tests_find(checkout)
    if tests.runner == "pytest":
        return (CheckSpec("pytest", "python -m pytest", "pytest"),)
    if tests.runner == "unittest":
        commands = [
            shlex.join(["python", "-m", "unittest", "discover", "-v", "-s", start, "-t", top])
            for start, top in tests.starts
        ]
        names = ["unittest"] if len(commands) == 1 else [f"unittest {start}" for start, _ in tests.starts]
        return tuple(CheckSpec(name, command, "unittest") for name, command in zip(names, commands, strict=True))
    return ()


def command_runner(command: str) -> Runner:
    """Whose results a command writes: only a plain call of the runner counts, nothing that a shell takes apart."""
    words = command_words(command)
    if not words:
        return "command"
    if words[0] in ("pytest", "py.test"):
        return "pytest"
    if re.fullmatch(r"python(3(\.\d+)?)?", words[0]) and words[1:2] == ["-m"]:
        if words[2:3] == ["pytest"]:
            return "pytest"
        if words[2:3] == ["unittest"]:
            return "unittest"
    return "command"


def command_words(command: str) -> list[str]:
    """The arguments of a plain command; empty when a shell is needed to understand it."""
    # Brackets and the like are meant for the shell, unless they are quoted.
    if _SHELL_SYNTAX.search(re.sub(r"'[^']*'", "", command)):
        return []
    try:
        return shlex.split(command)
    except ValueError:
        return []


def _named(commands: Sequence[str]) -> list[tuple[str, str]]:
    named: dict[str, str] = {}
    for command in commands:
        name = short = " ".join(command.split())[:_MAX_NAME]
        number = 2
        while name in named:
            name, number = f"{short} ({number})", number + 1
        named[name] = command
    return list(named.items())
