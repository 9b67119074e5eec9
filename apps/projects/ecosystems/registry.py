"""All ecosystems, and what they say together."""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from apps.core.errors import InvalidInput
from apps.projects.ecosystems.cmake import CMAKE
from apps.projects.ecosystems.commands import command_words
from apps.projects.ecosystems.go import GO
from apps.projects.ecosystems.gradle import GRADLE
from apps.projects.ecosystems.make import MAKE
from apps.projects.ecosystems.maven import MAVEN
from apps.projects.ecosystems.node import NODE
from apps.projects.ecosystems.php import PHP
from apps.projects.ecosystems.python import PYTHON
from apps.projects.ecosystems.results import results_merge
from apps.projects.ecosystems.ruby import RUBY
from apps.projects.ecosystems.rust import RUST
from apps.projects.ecosystems.tap import tap_read
from apps.projects.ecosystems.types import Ecosystem, OriginalTests, Results, Runner, RunnerCall, TestResult
from apps.projects.sandbox import sandbox_shows_programs
from apps.projects.sandbox.rootfs import program_path

#: In the order in which they are set up and checked.
ECOSYSTEMS: tuple[Ecosystem, ...] = (PYTHON, NODE, RUST, GO, MAVEN, GRADLE, CMAKE, RUBY, PHP, MAKE)

#: Files that have to do with every kind of check.
_COMMON_CONFIGURATION = re.compile(r"Makefile")
#: Scripts that run tests, whatever they are written in.
_COMMON_TESTS = re.compile(
    r"(run|do)[-_.]?(all[-_.]?)?(tests?|specs?|checks?)(\.\w+)?|(tests?|specs?|checks?)[-_.]?(run(ner)?|all|suite)s?\.\w+|"
    r"(tests?|specs?|checks?|ci)\.(sh|bash|zsh|cmd|bat|ps1)"
)
_COMMON_TEST_FOLDERS = frozenset({"test", "tests", "testing", "__tests__", "spec"})


@dataclass(frozen=True)
class Place:
    """A folder of a checkout that holds a project of some kind; the empty folder is the checkout itself."""

    ecosystem: Ecosystem
    folder: str


def ecosystem_get(name: str) -> Ecosystem:
    return next(ecosystem for ecosystem in ECOSYSTEMS if ecosystem.name == name)


def places_find(checkout: Path, *, folder: str = "") -> Iterator[Place]:
    """What kinds of projects are where. ``folder``: only there."""
    for ecosystem in ECOSYSTEMS:
        for place in (folder,) if folder else ecosystem.places(checkout):
            yield Place(ecosystem, place)


def folder_check(checkout: Path, folder: str) -> str:
    """The folder as it is named from here on. InvalidInput: it isn't a folder of the checkout."""
    pure = PurePosixPath(folder.strip().strip("/"))
    if not pure.parts:
        return ""
    path = checkout.joinpath(*pure.parts)
    if ".." in pure.parts or not path.is_dir() or not path.resolve().is_relative_to(checkout.resolve()):
        raise InvalidInput(
            f"The repository has no folder {folder!r}", next_step="Name a folder of the repository, such as packages/a."
        )
    return pure.as_posix()


def outputs_find(checkout: Path, *, folder: str = "") -> tuple[str, ...]:
    """Paths that builds write into. One that the checkout has holds something else besides, and is left out."""
    found = [
        posixpath.normpath(posixpath.join(place.folder, output))
        for place in places_find(checkout, folder=folder)
        for output in place.ecosystem.outputs(checkout, place.folder)
    ]
    return tuple(path for path in dict.fromkeys(found) if not (checkout / path).exists())


# --- Runners ----------------------------------------------------------------------------------------------------------


def runner_find(command: str) -> str:
    """The name of the runner that a plain command calls, or `command`."""
    words = command_words(command)
    runners = (runner for ecosystem in ECOSYSTEMS for runner in ecosystem.runners)
    return next((runner.name for runner in runners if words and runner.calls(words)), "command")


def runner_get(name: str) -> Runner:
    """A runner by its name; any command is one, which the others are reached inside of."""
    runners = [runner for ecosystem in ECOSYSTEMS for runner in ecosystem.runners]
    return next((runner for runner in runners if runner.name == name), _any_command())


def _any_command() -> Runner:
    inside = [runner for ecosystem in ECOSYSTEMS for runner in ecosystem.runners if runner.reaches_inside]

    def ask(call: RunnerCall) -> RunnerCall:
        for runner in inside:
            call = runner.ask(call)
        return call

    def read(results: Results) -> dict[str, TestResult]:
        parts = [reader(results) for reader in dict.fromkeys(runner.read for runner in inside)]
        return results_merge([*parts, tap_read(results.output)])

    return Runner(name="command", calls=lambda words: False, ask=ask, read=read, reaches_inside=True)


def programs_missing(ecosystem: Ecosystem, *, environment: Path | None) -> tuple[str, ...]:
    """Those that neither this machine's sandboxes nor the project's environment have.

    None where sandboxes have programs of their own: there the command itself tells that one is missing.
    """
    if not sandbox_shows_programs():
        return ()
    path = program_path(environment=False)
    if environment is not None:
        path = f"{environment / 'bin'}:{path}"
    return tuple(program for program in ecosystem.programs if shutil.which(program, path=path) is None)


# --- Files ------------------------------------------------------------------------------------------------------------


def is_setup_file(path: str) -> bool:
    """Whether a change of this file can change the environment."""
    pure = PurePosixPath(path)
    return is_lock_name(pure.name) or is_compiled(pure.name)


def is_lock_name(name: str) -> bool:
    """A name of files that decide what gets installed."""
    return any(ecosystem.setup_names.fullmatch(name) for ecosystem in ECOSYSTEMS)


def is_compiled(name: str, *, ecosystems: Collection[str] = ()) -> bool:
    """A source that a set-up compiles. ``ecosystems``: one of these, if any are named."""
    suffix = PurePosixPath(name).suffix.lower()
    asked = [ecosystem for ecosystem in ECOSYSTEMS if not ecosystems or ecosystem.name in ecosystems]
    return any(suffix in ecosystem.compiled_suffixes for ecosystem in asked)


def is_check_configuration(path: str) -> bool:
    """A file that decides how checks run."""
    name = PurePosixPath(path).name
    return bool(_COMMON_CONFIGURATION.fullmatch(name)) or any(
        ecosystem.configuration_names.fullmatch(name) or ecosystem.configuration_paths.fullmatch(path)
        for ecosystem in ECOSYSTEMS
    )


def is_test_file(path: str) -> bool:
    """A file that is a test, or that only tests use."""
    pure = PurePosixPath(path)
    if is_check_configuration(path):
        return False
    folders = _COMMON_TEST_FOLDERS.union(*(ecosystem.test_folders for ecosystem in ECOSYSTEMS))
    if folders.intersection(pure.parts[:-1]) or _COMMON_TESTS.fullmatch(pure.name):
        return True
    return any(ecosystem.test_names.fullmatch(pure.name) for ecosystem in ECOSYSTEMS)


def inner_tests(path: str, *, old: str, new: str) -> OriginalTests | None:
    """A changed file with its tests as they were; None when it isn't of a kind that holds both code and tests."""
    found = (ecosystem.inner_tests(path, old, new) for ecosystem in ECOSYSTEMS)
    return next((original for original in found if original is not None), None)


def paths_in_the_way(
    changed: Sequence[str], *, before: Collection[str], environment: Path | None, folders: Sequence[str] = ()
) -> tuple[str, ...]:
    """Changed files that some runner, started in one of the folders, would find before its own."""
    known = frozenset(before)
    found = {
        path
        for ecosystem in ECOSYSTEMS
        if ecosystem.in_the_way is not None
        for path in ecosystem.in_the_way(changed, known, environment, folders)
    }
    return tuple(sorted(found))
