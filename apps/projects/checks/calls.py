"""The programs that a command line calls, each with its words and the folders in which it may run.

Asked is which files a check may run, so that what isn't sure counts: a folder that the line may be in, a command in a
branch. What a shell is given within the line is read as well.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from apps.core.shell_parse import LENGTH, SimpleCommand, script_read
from apps.core.shell_parse_words import Word
from apps.core.shell_wrappers import WRAPPERS, runner_open, wrapper_open
from apps.projects.workspace import SANDBOX_WORKSPACE

#: Command lines within command lines that are looked into, and wrappers within wrappers.
_LEVELS = 4
#: Folders that are told apart.
_FOLDERS = 20
#: Lines of a script that can't be read as a whole.
_LINES = 2_000
_SHELL = re.compile(r"(?:ba|da|z|k)?sh")
_SHELL_COMMAND = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
#: An expansion in front of a path: a folder that only the shell knows.
_IN_FRONT = re.compile(r"(?:\$\w+|\$\{[^}]*\}|\$\(.*\)|`.*`)(?:/(.*))?", re.DOTALL)
_BLANKS_APART = ";&|(){}\n"


@dataclass(frozen=True)
class Call:
    """A program with its words, behind whatever wraps it."""

    words: tuple[Word, ...]
    #: From the repository's root, without a dot in front; where it may be run.
    folders: tuple[str, ...]


@dataclass
class _Place:
    """Where a shell may be."""

    folders: tuple[str, ...]
    before: tuple[str, ...]
    pushed: list[tuple[str, ...]] = field(default_factory=list)


def calls_read(text: str, *, folder: str, home: str | None = None) -> Iterator[Call]:
    """What a line or a script that starts in ``folder`` calls; never raises.

    ``home``: the folder in which the script lies, which a path that begins with an expansion is taken to be from.
    """
    yield from _script(text, (path_inside(folder, "."),), folder if home is None else home, _LEVELS)


def path_inside(folder: str, path: str) -> str:
    """A path from the repository's root; the root is empty."""
    prefix = f"{SANDBOX_WORKSPACE}/"
    joined = path.removeprefix(prefix) if f"{path}/".startswith(prefix) else posixpath.join(folder, path)
    return "" if joined == SANDBOX_WORKSPACE or posixpath.normpath(joined) == "." else posixpath.normpath(joined)


def places_of(word: Word, folders: Sequence[str], home: str) -> tuple[str, ...]:
    """The paths that a word may name, where the folder in front of it may be an expansion."""
    if not word.dynamic:
        return tuple(dict.fromkeys(path_inside(folder, word.text) for folder in folders))
    found = _IN_FRONT.fullmatch(word.text)
    if found is None or any(character in (found[1] or "") for character in "$`"):
        return ()
    # The script's own folder, the root, or where it is.
    return tuple(dict.fromkeys(path_inside(folder, found[1] or ".") for folder in (home, "", *folders)))


def _script(text: str, folders: tuple[str, ...], home: str, levels: int) -> Iterator[Call]:
    if levels == 0:
        return
    places: dict[tuple[int, ...], _Place] = {(): _Place(folders, folders)}
    for command in _commands(text):
        place = _place(places, command.shells)
        if command.words and command.words[0].text in ("cd", "pushd", "popd"):
            _go(command, place, home)
            continue
        yield from _opened(command.words, command.stdin, place.folders, home, levels)


def _place(places: dict[tuple[int, ...], _Place], shells: tuple[int, ...]) -> _Place:
    """Where the shell of a command is: a new one is where that around it was."""
    if shells not in places:
        around = _place(places, shells[:-1])
        places[shells] = _Place(around.folders, around.before, list(around.pushed))
    return places[shells]


def _go(command: SimpleCommand, place: _Place, home: str) -> None:
    name, *behind = command.words
    targets = [word for word in behind if not re.fullmatch(r"-[LPen@]+|--", word.text)]
    here = place.folders
    if name.text == "popd":
        folders = place.pushed.pop() if place.pushed else here
    elif targets and targets[0].text == "-":
        folders = place.before
    elif targets:
        folders = places_of(targets[0], here, home) or here
    else:
        # Home, which is outside of the repository; or, for pushd, what was pushed before.
        folders = place.pushed[-1] if name.text == "pushd" and place.pushed else here
    if name.text == "pushd":
        place.pushed.append(here)
    # What may not be run may leave it where it was.
    both = (*folders, *here) if command.conditional else folders
    place.folders, place.before = tuple(dict.fromkeys(both))[:_FOLDERS], here


def _opened(
    words: Sequence[Word], stdin: Word | None, folders: tuple[str, ...], home: str, levels: int
) -> Iterator[Call]:
    """A command without what wraps it, and the command lines that a shell is given by it."""
    while words and words[0].plain:
        name, behind = posixpath.basename(words[0].text), words[1:]
        if name == "eval":
            yield from _script(" ".join(word.text for word in behind), folders, home, levels - 1)
            return
        if _SHELL.fullmatch(name) and (nested := _given(behind, stdin)) is not None:
            if nested.plain:
                yield from _script(nested.text, folders, home, levels - 1)
            return
        if name in WRAPPERS:
            inner = wrapper_open(name, WRAPPERS[name], behind)
            if inner.problem or inner.asks:
                return
            if inner.folder is not None:
                folders = places_of(inner.folder, folders, home) or folders
            for nested in inner.scripts:
                yield from _script(nested.text, folders, home, levels - 1)
            words = inner.words
        elif (run := runner_open(name, behind)) is not None:
            if name == "yarn":
                # It runs a script of package.json by the same words.
                yield Call(tuple(words), folders)
            words = run
        else:
            break
    if words:
        yield Call(tuple(words), folders)


def _given(behind: Sequence[Word], stdin: Word | None) -> Word | None:
    """The command line that a shell is given in its words or on its standard input."""
    for position, word in enumerate(behind):
        if _SHELL_COMMAND.fullmatch(word.text):
            rest = behind[position + 1 :]
            return rest[0] if rest else Word("")
        if not word.text.startswith("-") or len(word.text) < 2:
            return stdin if word.text == "-" else None
    return stdin


def _commands(text: str) -> Iterator[SimpleCommand]:
    """The simple commands of a text; of one that can't be read as a whole, those of its lines."""
    script = script_read(text) if len(text) <= LENGTH else None
    if script is not None and (script.commands or not script.problems):
        yield from script.commands
        return
    lines = text.splitlines()
    if len(lines) > 1:
        for line in lines[:_LINES]:
            yield from _commands(line)
    elif text.strip() and len(text) <= LENGTH:
        yield from _roughly(text)


def _roughly(line: str) -> Iterator[SimpleCommand]:
    """Of a line that the grammar doesn't take, what stands between operators."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_BLANKS_APART)
    lexer.whitespace_split = True
    words: list[Word] = []
    try:
        for token in lexer:
            if set(token) <= set(_BLANKS_APART):
                yield SimpleCommand(tuple(words))
                words = []
            else:
                words.append(Word(token, dynamic="$" in token or "`" in token))
    except ValueError:
        # A quotation that doesn't end.
        pass
    yield SimpleCommand(tuple(words))
