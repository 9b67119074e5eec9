"""The files that a check runs by their names, where it is no call of a runner whose tests are known.

Whoever changes one of these changes what the check asks for: ``sh verify.sh`` passes on anything once verify.sh says
so. What such a file calls in turn may well be the code that is checked, so it is not followed.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence

from apps.projects.checks.types import CheckSpec
from apps.projects.repository import commit_files, commit_paths

_WORKSPACE = "/workspace/"
_APART = re.compile(r"&&|\|\||[;|&\n(){}]")
_ASSIGNMENT = re.compile(r"\w+=.*")
#: What stands before the program itself.
_BEFORE = frozenset(
    {"!", "env", "exec", "time", "nice", "command", "uv", "poetry", "pipenv", "pdm", "run", "if", "then", "do"}
)
_INTERPRETER = re.compile(
    r"(?:ba|da|z|k)?sh|\.|source|python[\d.]*|pypy[\d.]*|node|deno|bun|tsx|ts-node|ruby|perl|php|lua[\d.]*|Rscript|pwsh"
)
_SHELL = re.compile(r"(?:ba|da|z|k)?sh|\.|source")
#: Options of interpreters whose value is a word of its own.
_VALUED = frozenset({"-W", "-X", "-o", "--require", "--import", "--loader"})
_MANAGERS = frozenset({"npm", "pnpm", "yarn", "bun"})


def scripts_changed(
    *, project_id: object, base: str, specs: Sequence[CheckSpec], changed: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """By the names of checks: the changed files that they run, of those that ``base`` has."""
    asked = [spec for spec in specs if spec.runner in ("command", "npm-script")]
    if not asked or not changed:
        return {}
    there = frozenset(commit_paths(project_id=project_id, commit=base)).intersection(changed)
    packages = {spec.folder: posixpath.join(spec.folder, "package.json") for spec in asked}
    texts = commit_files(project_id=project_id, commit=base, paths=sorted(set(packages.values()))) if there else {}
    found = {}
    for spec in asked:
        scripts = _package_scripts(texts.get(packages[spec.folder], b""))
        if paths := scripts_named(spec.command, folder=spec.folder, paths=there, scripts=scripts):
            found[spec.name] = paths
    return found


def scripts_named(
    command: str, *, folder: str = "", paths: Collection[str], scripts: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Which of these files a command runs. ``scripts``: those of package.json, by name."""
    found: dict[str, None] = {}
    place = folder
    for words in _calls(command):
        if words[0] == "cd" and len(words) > 1:
            place = _inside(place, words[1])
            continue
        if words[0] in _MANAGERS:
            for name in words[1:]:
                if scripts and name in scripts:
                    # A script that calls itself is not followed.
                    others = {other: text for other, text in scripts.items() if other != name}
                    found |= dict.fromkeys(scripts_named(scripts[name], folder=place, paths=paths, scripts=others))
        candidates = (_inside(place, name) for name in _named(words))
        found |= dict.fromkeys(name for name in candidates if name in paths)
    return tuple(found)


def _calls(command: str) -> Iterator[list[str]]:
    """The simple commands of a line, each with its program first."""
    for part in _APART.split(command):
        try:
            words = shlex.split(part)
        except ValueError:
            words = part.split()
        while words and (words[0] in _BEFORE or _ASSIGNMENT.fullmatch(words[0])):
            words = words[1:]
        if words:
            yield words


def _named(words: Sequence[str]) -> Iterator[str]:
    """The paths that may be the file which this runs."""
    program, *rest = words
    if not _INTERPRETER.fullmatch(posixpath.basename(program)):
        yield program
        return
    inline = ("-c",) if _SHELL.fullmatch(posixpath.basename(program)) else ("-c", "-e", "--eval", "-r")
    remaining = iter(rest)
    for word in remaining:
        if word == "-m":
            module = next(remaining, "").replace(".", "/")
            yield from (f"{module}.py", f"{module}/__main__.py")
            return
        if word in inline:
            return
        if word in _VALUED:
            next(remaining, "")
        elif not word.startswith("-") and word not in ("run", "test"):
            yield word
            return


def _inside(folder: str, path: str) -> str:
    """A path from the repository's root."""
    joined = path.removeprefix(_WORKSPACE) if path.startswith(_WORKSPACE) else posixpath.join(folder, path)
    return posixpath.normpath(joined)


def _package_scripts(text: bytes) -> dict[str, str]:
    try:
        scripts = json.loads(text).get("scripts")
    except (ValueError, AttributeError):
        return {}
    named = scripts.items() if isinstance(scripts, dict) else ()
    return {str(name): script for name, script in named if isinstance(script, str)}
