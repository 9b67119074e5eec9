"""Reading a check's command line into what has to be there for it to run, as far as that can be told.

Whatever can't be told is left out, so that no command is called impossible that could run: what a branch or a loop
runs, what follows a command that may make files or bring programs, words that a shell expands.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from apps.agents.tools.base import Risk
from apps.agents.tools.check_programs import Wanted, wanted_by
from apps.agents.tools.policy_programs import program_judge, python_module
from apps.core.shell_parse import Script, SimpleCommand, script_read
from apps.core.shell_parse_words import Word, words_set
from apps.core.shell_wrappers import WRAPPERS, runner_open, wrapper_open

#: Command lines within command lines that are looked into.
_LEVELS = 3
#: Folders of one command line that are told apart.
_FOLDERS = 20
#: What bash runs by itself.
BUILTINS = words_set(
    ". : [ [[ alias bg bind break builtin caller case cd command compgen complete compopt continue coproc declare dirs"
    " disown do done echo elif else enable esac eval exec exit export false fc fg fi for function getopts hash help"
    " history if in jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return select set"
    " shift shopt source suspend test then time times trap true type typeset ulimit umask unalias unset until wait"
    " while { } ! (("
)
#: Programs that leave no files behind that somebody would run, whatever they run themselves.
_LOOKERS = words_set("pytest py.test ruff flake8 mypy pylint pyright isort black eslint prettier jest vitest rspec")
#: What may bring programs, or change where they are looked for.
_BRINGS = words_set(
    "pip pip3 pipx uv poetry pdm pipenv hatch rye conda mamba npm npx pnpm yarn bun cargo go gem bundle composer apt"
    " apt-get apk dnf yum brew make cmake ninja source . eval alias hash nvm rustup corepack asdf mise virtualenv"
)
#: What may end the line before its end.
_ENDS = words_set("exit return exec break continue logout kill")
_INSTALLS = re.compile(r"-m (pip|venv|virtualenv|ensurepip|pipx)")


@dataclass(frozen=True)
class Need:
    """Something wanted, and from where: any of the ``folders`` (None: nobody knows which)."""

    wanted: Wanted
    folders: tuple[str, ...] | None
    #: Something before it in the line may have brought it.
    may_be_brought: bool = False


@dataclass
class _Line:
    """What is known of a line so far."""

    folders: list[str] | None
    #: Wherever it may have been so far.
    visited: list[str] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    makes_files: bool = False
    brings_programs: bool = False
    written: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    needs: tuple[Need, ...] = ()
    #: Paths that the line itself writes, from the root, wherever it may be when it does.
    written: tuple[str, ...] = ()
    #: Command lines that a shell is given by it.
    scripts: tuple[str, ...] = ()


def command_read(command: str, *, folder: str = "") -> Reading:
    """What a line that starts in ``folder`` can't do without; never raises."""
    line = _Line([folder])
    needs = tuple(_script(command, line, _LEVELS))
    visited = dict.fromkeys([folder, *line.visited])
    written = tuple(posixpath.join(each, path) for path in line.written for each in visited)
    return Reading(needs, written, tuple(line.scripts))


def _script(command: str, line: _Line, levels: int) -> Iterator[Need]:
    script = script_read(command)
    if script.problems or levels == 0:
        # What can't be read for sure may do anything to what follows.
        line.makes_files = line.brings_programs = True
        return
    line.functions |= set(script.functions)
    line.written += _written(script)
    for each in script.commands:
        yield from _command(each, line, levels)


def _written(script: Script) -> list[str]:
    return [redirect.target.text for redirect in script.redirects if redirect.writes and redirect.target.plain]


def _command(command: SimpleCommand, line: _Line, levels: int) -> Iterator[Need]:
    for name, value in command.assignments:
        line.brings_programs = line.brings_programs or (name == "PATH" and bool(value.text))
    words: Sequence[Word] = command.words
    # What only may be run leaves behind that it may have gone somewhere, as does what runs in a shell of its own.
    goes_on = levels == _LEVELS and not (command.conditional or command.negated or command.apart)
    for need in _words(words, line, levels, goes_on=goes_on):
        if command.conditional or (command.negated and need.wanted.kind != "program"):
            continue
        yield need
    if words and words[0].text in _ENDS:
        # What follows may not be run at all.
        line.makes_files = line.brings_programs = True


def _words(words: Sequence[Word], line: _Line, levels: int, *, goes_on: bool) -> Iterator[Need]:
    """What a program with its words needs, and what it does to what follows."""
    looked_up, whole = True, words
    # A wrapper within a wrapper, and so on: each takes words away.
    while words:
        if not words[0].plain:
            if words[0].source.startswith("$ "):
                # Copied with the prompt in front, which bash takes for a program.
                yield _program("$", line)
            line.makes_files = line.brings_programs = True
            return
        name, behind = words[0].text, words[1:]
        if name in line.functions:
            line.makes_files = line.brings_programs = True
            return
        if looked_up and name not in BUILTINS:
            yield _program(name, line)
        if name in ("cd", "pushd", "popd"):
            yield from _goes(name, behind, line, goes_on=goes_on and words is whole)
            return
        short = posixpath.basename(name)
        if short in ("bash", "sh") and (script := _script_word(behind)) is not None:
            if script.plain:
                line.scripts.append(script.text)
                yield from _script(script.text, line, levels - 1)
            else:
                line.makes_files = line.brings_programs = True
            return
        if short in WRAPPERS and short not in ("coproc", "builtin"):
            inner = wrapper_open(short, WRAPPERS[short], behind)
            for nested in inner.scripts:
                if nested.plain:
                    yield from _script(nested.text, line, levels - 1)
            if inner.problem or inner.asks or inner.scripts:
                line.makes_files = line.makes_files or not inner.asks
                return
            if inner.folder is not None:
                # What it runs there is not looked for: `env -C web sh run.sh`.
                here, line.folders = line.folders, None
                yield from _words(() if short == "xargs" else inner.words, line, levels, goes_on=False)
                line.folders = here
                return
            words = () if short == "xargs" else inner.words
            continue
        if (inner_words := runner_open(short, behind)) is not None:
            for wanted in wanted_by(short, behind):
                yield Need(wanted, _folders(line), line.makes_files)
            looked_up, words = False, inner_words
            line.makes_files = line.makes_files or not words
            continue
        for wanted in wanted_by(short, behind):
            yield Need(wanted, _folders(line), line.makes_files)
        _follow(short, words, line)
        return


def _program(name: str, line: _Line) -> Need:
    by_path = "/" in name
    return Need(Wanted("program", name), _folders(line), line.makes_files if by_path else line.brings_programs)


def _folders(line: _Line) -> tuple[str, ...] | None:
    return None if line.folders is None else tuple(line.folders)


def _goes(name: str, behind: Sequence[Word], line: _Line, *, goes_on: bool) -> Iterator[Need]:
    targets = [word for word in behind if not (word.plain and re.fullmatch(r"-[LPe@]+|--", word.text))]
    target = targets[0] if len(targets) == 1 else Word("~", dynamic=True)
    if name == "popd" or not target.plain or target.text.startswith(("~", "-", "/")) or line.folders is None:
        line.folders = None
        return
    yield Need(Wanted("folder", target.text), _folders(line), line.makes_files)
    # Otherwise what follows may be run from where it was, or from there: each folder may be meant.
    stays = [] if goes_on else line.folders
    line.folders = list(dict.fromkeys([*stays, *(posixpath.join(each, target.text) for each in line.folders)]))
    line.visited += line.folders
    if len(line.folders) > _FOLDERS:
        line.folders = None


def _script_word(behind: Sequence[Word]) -> Word | None:
    """The command line that a shell is given."""
    for place, word in enumerate(behind):
        if not word.plain or not word.text.startswith("-"):
            return None
        if re.fullmatch(r"-[A-Za-z]*c[A-Za-z]*", word.text):
            return behind[place + 1] if place + 1 < len(behind) else Word("", dynamic=True)
    return None


def _follow(name: str, words: Sequence[Word], line: _Line) -> None:
    """What may be there for the commands that follow, now that this one has run."""
    module = python_module(words[1:])
    if module and _INSTALLS.match(f"-m {module[0].text}"):
        line.brings_programs = True
    if name in _BRINGS:
        line.brings_programs = True
    if name in ("export", "declare", "typeset") and any("PATH" in word.text for word in words[1:]):
        line.brings_programs = True
    if name in _LOOKERS or (module and module[0].text in _LOOKERS) or (name in BUILTINS and name not in _BRINGS):
        return
    risks, _ = program_judge(name, [replace(words[0], text=name), *words[1:]])
    line.makes_files = line.makes_files or not risks <= {Risk.READ}
