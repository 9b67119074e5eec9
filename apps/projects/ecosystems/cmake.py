"""C and C++ by CMake, tests by ctest."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from apps.projects.ecosystems.folders import any_contains, folders_with
from apps.projects.ecosystems.results import junit_results
from apps.projects.ecosystems.types import RESULTS, CheckCommand, Ecosystem, Runner, RunnerCall

_LISTS = re.compile(r"CMakeLists\.txt")
_LISTS_AND_MODULES = re.compile(r"CMakeLists\.txt|.*\.cmake")
_ENABLED = re.compile(r"^\s*(enable_testing\s*\(|include\s*\(\s*CTest\s*\))", re.MULTILINE | re.IGNORECASE)
_FOLDER = ".archon-build"
_COMMAND = (
    f'cmake -S . -B {_FOLDER} -DBUILD_TESTING=ON && cmake --build {_FOLDER} --parallel "$(nproc)" && '
    f"ctest --test-dir {_FOLDER} --output-on-failure"
)


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    is_project = (checkout / place / "CMakeLists.txt").is_file()
    if not is_project or not any_contains(checkout, _LISTS_AND_MODULES, _ENABLED, below=place):
        return ()
    return (CheckCommand("ctest", _COMMAND, "ctest"),)


def _ask(call: RunnerCall) -> RunnerCall:
    # ctest is what the command ends with, whether it is ours or a plain call.
    return replace(call, command=f"{call.command} --output-junit {RESULTS}/ctest.xml")


def _select(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    # Brackets and the like mean something else in CMake's expressions, and can't be quoted in all of its versions.
    if not all(re.fullmatch(r"[\w./:-]+", name) for name in tests):
        return None
    chosen = "|".join(name.replace(".", r"\.") for name in tests)
    return replace(call, command=f"{call.command} -R {shlex.quote(f'^({chosen})$')}")


CTEST = Runner(
    name="ctest",
    calls=lambda words: bool(words) and words[0] == "ctest",
    ask=_ask,
    read=junit_results,
    select=_select,
    compiles=True,
)

CMAKE = Ecosystem(
    name="cmake",
    title="CMake",
    places=lambda checkout: folders_with(checkout, _LISTS),
    # What such projects need comes from the system: there is no lock file to set anything up by.
    setup=lambda checkout, place: None,
    checks=_checks,
    runners=(CTEST,),
    programs=("cmake", "ctest", "make", "cc"),
    packages="cmake (3.21 or newer), make and g++ on Debian",
    outputs=lambda checkout, place: (_FOLDER,) if (checkout / place / "CMakeLists.txt").is_file() else (),
    configuration_names=re.compile(r"CMakeLists\.txt|.*\.cmake|CMake(User)?Presets\.json|CTestCustom.*|.*\.cmake\.in"),
    test_names=re.compile(r"(test_.*|.*_tests?|.*[a-z]Tests?|tests?)\.(c|cc|cpp|cxx|h|hpp)"),
)
