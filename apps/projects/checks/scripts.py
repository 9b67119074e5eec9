"""The files that a check runs by their names, where it is no call of a runner whose tests are known.

Whoever changes one of these changes what the check asks for: ``sh verify.sh`` passes on anything once verify.sh says
so. What such a file calls in turn may well be the code that is checked: of that, only scripts of the shell whose paths
say that they have to do with checks are followed (``sh ci/lint.sh``), as of what a make target's recipe calls. In a
repository of shell scripts, everything that its tests run would else count as a part of the tests.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from apps.core.shell_parse_words import Word
from apps.projects.checks.calls import Call, calls_read, path_inside, places_of
from apps.projects.checks.recipes import recipe_lines
from apps.projects.checks.types import CheckSpec
from apps.projects.ecosystems.make import MAKEFILES
from apps.projects.ecosystems.node_scripts import scripts_read
from apps.projects.ecosystems.registry import is_test_file
from apps.projects.repository import commit_files, commit_paths

#: Scripts, recipes and files within one another that are followed.
_DEPTH = 8
_INTERPRETER = re.compile(
    r"(?:ba|da|z|k)?sh|\.|source|python[\d.]*|pypy[\d.]*|node|deno|bun|tsx|ts-node|ruby|perl|php|lua[\d.]*|Rscript|pwsh"
)
_SHELL = re.compile(r"(?:ba|da|z|k)?sh|\.|source")
_SHELL_FILE = re.compile(r".+\.(?:ba|z|k)?sh")
_SHELL_LINE = re.compile(r"#!.*\b(?:ba|da|z|k)?sh\b")
#: Options of interpreters whose value is a word of its own.
_VALUED = frozenset({"-W", "-X", "--require", "--import", "--loader"})
_SHELL_VALUED = re.compile(r"[-+][A-Za-z]*[oO]")
_MANAGERS = frozenset({"npm", "pnpm", "yarn", "bun"})
#: Options of managers and of make whose value is the folder.
_FOLDER_OPTIONS = frozenset({"-C", "--prefix", "--dir", "--cwd", "--directory"})
_FILE_OPTIONS = frozenset({"-f", "--file", "--makefile"})
#: Parts of the names of scripts that have to do with checks.
_OF_CHECKS = re.compile(
    r"(?:^|[/._-])(?:run)?(?:tests?|testing|checks?|ci|verify|verification|validate|validation|lint|specs?|smoke|e2e|qa)"
    r"(?=[/._-]|$)",
    re.IGNORECASE,
)


def scripts_changed(
    *, project_id: object, base: str, specs: Sequence[CheckSpec], changed: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """By the names of checks: the changed files that they run, of those that ``base`` has."""
    asked = [spec for spec in specs if spec.runner in ("command", "npm-script")]
    if not asked or not changed:
        return {}
    known = frozenset(commit_paths(project_id=project_id, commit=base))
    there = known.intersection(changed)
    if not there:
        return {}
    texts: dict[str, str] = {}

    def read(path: str) -> str:
        if path not in known:
            return ""
        if path not in texts:
            content = commit_files(project_id=project_id, commit=base, paths=[path]).get(path, b"")
            texts[path] = content.decode("utf-8", "replace")
        return texts[path]

    found = {spec.name: scripts_named(spec.command, folder=spec.folder, paths=there, read=read) for spec in asked}
    return {name: paths for name, paths in found.items() if paths}


def scripts_named(
    command: str, *, folder: str = "", paths: Collection[str], read: Callable[[str], str]
) -> tuple[str, ...]:
    """Which of these files a command runs. ``read``: the text of a file by its path, empty where there is none."""
    walk = _Walk(paths, read)
    return tuple(dict.fromkeys(walk.line(command, folder, folder, _DEPTH, is_own=True)))


@dataclass
class _Walk:
    paths: Collection[str]
    read: Callable[[str], str]
    #: What has been followed: a file, a script of package.json or a target, each with its folder.
    seen: set[tuple[str, ...]] = field(default_factory=set)

    def line(self, text: str, folder: str, home: str, depth: int, *, is_own: bool) -> Iterator[str]:
        """The files that a text runs. ``is_own``: it says itself what the check is, so that every file counts."""
        if depth == 0:
            return
        for call in calls_read(text, folder=folder, home=home):
            program = posixpath.basename(call.words[0].text)
            if program in _MANAGERS:
                yield from self._managed(call, home, depth, is_own=is_own)
            elif program in ("make", "gmake"):
                yield from self._made(call, home, depth)
            for word, by_shell in _named(call.words):
                for path in places_of(word, call.folders, home):
                    yield from self._file(path, call.folders, depth, by_shell=by_shell, is_own=is_own)

    def _file(self, path: str, folders: Sequence[str], depth: int, *, by_shell: bool, is_own: bool) -> Iterator[str]:
        if is_own and path in self.paths:
            yield path
        if not is_own and not (_OF_CHECKS.search(path) or is_test_file(path)):
            return
        text = self.read(path)
        if not (by_shell or _SHELL_FILE.fullmatch(path) or _SHELL_LINE.match(text)):
            return
        if not is_own and path in self.paths:
            yield path
        for folder in folders:
            if ("file", path, folder) not in self.seen:
                self.seen.add(("file", path, folder))
                yield from self.line(text, folder, posixpath.dirname(path), depth - 1, is_own=False)

    def _managed(self, call: Call, home: str, depth: int, *, is_own: bool) -> Iterator[str]:
        """By a script of package.json."""
        folders, words, _ = _options(call, home)
        for folder in folders:
            place = folder
            while not (text := self.read(path_inside(place, "package.json"))) and place:
                place = posixpath.dirname(place)
            scripts = scripts_read(text)
            for name in (word for word in words if word in scripts):
                # One that calls itself is not followed.
                if ("script", place, name) not in self.seen:
                    self.seen.add(("script", place, name))
                    yield from self.line(scripts[name], place, place, depth - 1, is_own=is_own)

    def _made(self, call: Call, home: str, depth: int) -> Iterator[str]:
        """By the recipe of a target."""
        folders, words, files = _options(call, home)
        targets = [word for word in words if not word.startswith("-") and "=" not in word]
        for folder in folders:
            texts = (self.read(path_inside(folder, name)) for name in files or MAKEFILES)
            key = ("make", folder, *files, "", *targets)
            if key not in self.seen:
                self.seen.add(key)
                for line in recipe_lines(next(filter(None, texts), ""), targets):
                    yield from self.line(line, folder, folder, depth - 1, is_own=False)


def _options(call: Call, home: str) -> tuple[tuple[str, ...], list[str], list[str]]:
    """Where a manager or make works, the words that are left, and the makefiles that are named."""
    folders, words, files = call.folders, [], []
    rest = iter(call.words[1:])
    for word in rest:
        option, separator, value = word.text.partition("=")
        if option in _FOLDER_OPTIONS:
            target = Word(value) if separator else next(rest, Word("."))
            folders = places_of(target, folders, home) or folders
        elif option in _FILE_OPTIONS:
            files.append(value if separator else next(rest, Word("")).text)
        else:
            words.append(word.text)
    return folders, words, files


def _named(words: Sequence[Word]) -> Iterator[tuple[Word, bool]]:
    """The words that may be the file which this runs, and whether a shell does."""
    program, *rest = words
    name = posixpath.basename(program.text)
    if program.dynamic or not _INTERPRETER.fullmatch(name):
        # One without a slash is looked up elsewhere.
        if "/" in program.text:
            yield program, False
        return
    is_shell = bool(_SHELL.fullmatch(name))
    inline = ("-c",) if is_shell else ("-c", "-e", "--eval", "-r")
    remaining = iter(rest)
    for word in remaining:
        if word.text == "-m" and not is_shell:
            module = next(remaining, Word("")).text.replace(".", "/")
            yield from ((Word(path), False) for path in (f"{module}.py", f"{module}/__main__.py"))
            return
        if word.text in inline:
            return
        if word.text in _VALUED or (is_shell and _SHELL_VALUED.fullmatch(word.text)):
            next(remaining, "")
        elif not word.text.startswith("-") and word.text not in ("run", "test"):
            yield word, is_shell
            return
