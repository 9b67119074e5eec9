"""docs/reference/cli.md has every command with every option, and what docs tell people to type is there to be typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from cli.errors import EXIT_CODES_HELP
from cli.main import MODULES, app_make

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
#: They hand everything on to another program, whose options these are.
PASS_THROUGH = {"test", "bench", "train"}


def _commands() -> dict[str, TyperCommand]:
    """By name; one within a group by both names, as `keys set`."""
    group = typer.main.get_command(app_make(MODULES.values()))
    assert isinstance(group, TyperGroup)
    found: dict[str, TyperCommand] = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperCommand):
            found[name] = command
        elif isinstance(command, TyperGroup):
            found |= {f"{name} {n}": inner for n, inner in command.commands.items() if isinstance(inner, TyperCommand)}
    return found


COMMANDS = _commands()


def _sections() -> dict[str, tuple[str, str]]:
    """By command: its arguments as the heading shows them, and the text below it."""
    parts = re.split(r"^### `(.+)`$", PAGE.split("\n## What happens")[0], flags=re.MULTILINE)[1:]
    headings = (_split(heading.split()) for heading in parts[::2])
    return {name: (" ".join(rest), text) for (name, rest), text in zip(headings, parts[1::2], strict=True)}


def _split(words: list[str]) -> tuple[str, list[str]]:
    """A command's name, of one word or two, and what comes after it."""
    two = " ".join(words[:2])
    return (two, words[2:]) if two in COMMANDS else (words[0], words[1:])


def test_every_command_has_a_section_and_no_other() -> None:
    assert set(_sections()) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - PASS_THROUGH))
def test_options_and_arguments_are_those_of_the_command(name: str) -> None:
    parameters = COMMANDS[name].params
    arguments, text = _sections()[name]
    options = [p for p in parameters if isinstance(p, TyperOption) and not p.hidden]
    # A short form stands beside its long one, the form that says no beside the other.
    shown = {opt for p in options for opt in (*p.opts, *p.secondary_opts) if opt.startswith("--")}
    rows = "\n".join(re.findall(r"^\| (`--[^|]*) \|", text, re.MULTILINE))
    assert set(re.findall(r"--[a-z-]+", rows)) == shown
    assert arguments.split() == [(p.name or "").upper() for p in parameters if isinstance(p, TyperArgument)]


def test_exit_codes_are_those_of_the_help() -> None:
    table = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert table == re.findall(r"\b(\d+) [a-z]", EXIT_CODES_HELP)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_are_shown_exist(path: Path) -> None:
    commands = COMMANDS
    for line in _typed(path.read_text()):
        for words in re.findall(r"\./archon((?: +[^\s`|&;)]+)*)", line):
            name, rest = _split(words.split() or [""])
            if name and name not in ("--help", "NAME"):
                assert name in commands, f"{line!r}: there is no {name}"
                if name not in PASS_THROUGH:
                    known = {opt for p in commands[name].params for opt in (*p.opts, *p.secondary_opts)} | {"--help"}
                    unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - known
                    assert not unknown, f"{line!r}: {name} has no {', '.join(unknown)}"


def _typed(text: str) -> list[str]:
    """Lines of code fences, continued ones joined, and code within sentences."""
    fences = re.findall(r"^ *```.*?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line for fence in fences for line in fence.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`(\./archon [^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S))
