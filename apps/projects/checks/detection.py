"""Which checks a checkout has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from apps.projects.checks.types import CheckSpec
from apps.projects.ecosystems.commands import command_words
from apps.projects.ecosystems.registry import folder_check, places_find, runner_find

__all__ = ["checks_detect", "command_runner", "command_words"]

_MAX_NAME = 80

#: Whose results a command writes: only a plain call of the runner counts, nothing that a shell takes apart.
command_runner = runner_find


def checks_detect(*, checkout: Path, commands: Sequence[str] = (), folder: str = "") -> tuple[CheckSpec, ...]:
    """The given commands, or else what runs the tests that are there; none when there are none.

    ``folder``: the project is in that folder of the checkout; commands run there, and nothing else is looked for.
    """
    folder = folder_check(checkout, folder)
    given = [command.strip() for command in commands if command.strip()]
    if given:
        return tuple(CheckSpec(name, command, runner_find(command), folder) for name, command in _named(given))
    found: dict[str, CheckSpec] = {}
    for place in places_find(checkout, folder=folder):
        if place.ecosystem.last_resort and found:
            continue
        for check in place.ecosystem.checks(checkout, place.folder):
            name = check.name if place.folder == folder else f"{place.folder}: {check.name}"
            name = name if name not in found else f"{place.ecosystem.title}: {name}"
            found[name] = CheckSpec(name, check.command, check.runner, place.folder, place.ecosystem.name)
    return tuple(found.values())


def _named(commands: Sequence[str]) -> list[tuple[str, str]]:
    named: dict[str, str] = {}
    for command in commands:
        name = short = " ".join(command.split())[:_MAX_NAME]
        number = 2
        while name in named:
            name, number = f"{short} ({number})", number + 1
        named[name] = command
    return list(named.items())
