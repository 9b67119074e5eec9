"""What an ecosystem and a runner of tests say of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from apps.projects.ecosystems.sources import SourceCollector

TestResult = Literal["passed", "failed", "error", "skipped"]

#: Where a check's sandbox has a folder to write results into, and what it is lent to do so.
RESULTS = "/run/results"
LENT = "/run/lent"

NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True)
class SetupPlan:
    """How one project of an ecosystem gets what it needs."""

    #: For people: what was found.
    description: str
    #: Lines of bash (``-e``), run in the project's folder. May be empty.
    script: str
    #: What the script is told besides.
    variables: Mapping[str, str] = field(default_factory=dict)
    #: Variables for every command that then uses the environment.
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckCommand:
    """A command that runs a project's tests."""

    name: str
    #: A shell command line, for the project's folder.
    command: str
    #: A :class:`Runner`'s name, or `command`.
    runner: str


@dataclass(frozen=True)
class RunnerCall:
    """A command line and the variables it gets."""

    command: str
    env: Mapping[str, str]


@dataclass(frozen=True)
class Results:
    """What a check left behind. All of it came out of a sandbox, and may be anything."""

    #: What stood at ``RESULTS``.
    folder: Path
    #: The checkout in which it ran.
    workspace: Path
    #: The project's folder in it, relative; empty: the checkout itself.
    place: str
    #: What it printed, cut in the middle when it was long: for what has to be whole, have it written to a file.
    output: str


@dataclass(frozen=True)
class OriginalTests:
    """A changed source file with the tests in it as they were."""

    text: str
    #: False: not all that are tests in it can be told from the code.
    complete: bool


def _as_it_is(call: RunnerCall) -> RunnerCall:
    return call


@dataclass(frozen=True)
class Runner:
    """A program that runs tests and can say how each of them went."""

    name: str
    #: Whether the words of a plain command are a call of it.
    calls: Callable[[Sequence[str]], bool]
    #: The results that a run left, by test. Nothing at all where there are none.
    read: Callable[[Results], Mapping[str, TestResult]]
    #: The call that also writes results.
    ask: Callable[[RunnerCall], RunnerCall] = _as_it_is
    #: The (not yet asked) call that runs these tests and few others, or None when that can't be said.
    select: Callable[[RunnerCall, Sequence[str]], RunnerCall | None] | None = None
    #: ``ask`` changes variables only, and so reaches a runner that any command calls somewhere.
    reaches_inside: bool = False
    #: Tests are compiled before they run: one that doesn't compile takes all of them with it.
    compiles: bool = False
    #: Exit codes that mean that there were no tests.
    no_tests: frozenset[int] = frozenset()


def _no_inner_tests(path: str, old: str, new: str) -> OriginalTests | None:
    return None


def _no_outputs(checkout: Path, place: str) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Ecosystem:
    """A kind of project. Every function gets a checkout and a folder in it (relative; empty: the checkout itself)."""

    name: str
    title: str
    #: The folders that hold a project of this kind; looked for when nobody names one.
    places: Callable[[Path], Sequence[str]]
    #: None: nothing to install.
    setup: Callable[[Path, str], SetupPlan | None]
    #: The checks, none when there are no tests.
    checks: Callable[[Path, str], Sequence[CheckCommand]]
    #: Bash that goes before all of its plans' scripts, once.
    prelude: Callable[[], str] = str
    runners: tuple[Runner, ...] = ()
    #: Programs that its set-up and checks can't do without.
    programs: tuple[str, ...] = ()
    #: For people: what has them.
    packages: str = ""
    #: Its checks are run only where no other ecosystem has any.
    last_resort: bool = False
    #: Folders of a place, relative to it, that builds write into and that belong into no commit.
    outputs: Callable[[Path, str], Sequence[str]] = _no_outputs
    #: Says which registries this host is configured for.
    sources: Callable[[SourceCollector], None] | None = None
    #: Names of files that decide what is installed, and suffixes of sources that a set-up compiles.
    setup_names: re.Pattern[str] = NOTHING
    compiled_suffixes: frozenset[str] = frozenset()
    #: Names of files that decide how checks run; paths of them; names of test files; folders that hold only tests.
    configuration_names: re.Pattern[str] = NOTHING
    configuration_paths: re.Pattern[str] = NOTHING
    test_names: re.Pattern[str] = NOTHING
    test_folders: frozenset[str] = frozenset()
    #: For files that hold code and tests: gets the path and the text before and after a change. None: no such file.
    inner_tests: Callable[[str, str, str], OriginalTests | None] = _no_inner_tests
    #: Of changed paths, those that are found before the runner's own files. Gets all paths there were before, the
    #: environment's folder, and the folders in which checks run.
    in_the_way: Callable[[Sequence[str], frozenset[str], Path | None, Sequence[str]], Sequence[str]] | None = None
