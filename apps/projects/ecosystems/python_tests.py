"""Which tests a Python checkout has, and what runs them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apps.projects.ecosystems.python_requirements import ini_read, text_read, toml_read

_SKIPPED_FOLDERS = {
    ".git", ".tox", ".nox", ".venv", "venv", "env", "node_modules", "build", "dist", "site-packages", "__pycache__",
    ".eggs", "vendor", "_vendor",
}  # fmt: skip
_MAX_FILES = 5_000
_TEST_FILE = re.compile(r"(test.*|.*_test|tests)\.py")
_TEST_CASE = re.compile(r"class\s+\w+\s*\([^)]*\bTestCase\b|class\s+\w+\s*\([^)]*TestCase[^)]*\)")
_PYTEST_IMPORT = re.compile(r"^\s*(import|from)\s+_?pytest\b", re.MULTILINE)
_TEST_FUNCTION = re.compile(r"^(async\s+)?def\s+test", re.MULTILINE)
_TEST_METHOD = re.compile(r"^(?: {2,4}|\t)(async\s+)?def\s+test", re.MULTILINE)
_PLAIN_CLASS = re.compile(r"^class\s+Test\w*\s*(\(\s*(object)?\s*\))?\s*:", re.MULTILINE)


@dataclass(frozen=True)
class PythonTests:
    #: None when there are no tests that either would find.
    runner: Literal["pytest", "unittest"] | None
    #: Test files, as paths in the checkout.
    files: tuple[str, ...]
    #: For unittest: the folders to start from, each with the top folder that its modules are named from.
    starts: tuple[tuple[str, str], ...] = ()


def python_tests_find(checkout: Path) -> PythonTests:
    """Look at configuration first and at what the test files are like second."""
    files = _test_files(checkout)
    sources = {name: text_read(checkout / name) for name in files}
    if not files and not _pytest_configured(checkout):
        return PythonTests(None, ())
    wants_pytest = _pytest_configured(checkout) or any(
        _PYTEST_IMPORT.search(source) or _TEST_FUNCTION.search(source) or _PLAIN_CLASS.search(source)
        for source in sources.values()
    )
    if wants_pytest:
        return PythonTests("pytest", files)
    cases = tuple(name for name, source in sources.items() if _TEST_CASE.search(source))
    if not cases:
        return PythonTests(None, files)
    # A library for testing has cases to inherit from, with no test in them: only without others do these count.
    with_tests = tuple(name for name in cases if _TEST_METHOD.search(sources[name]))
    return PythonTests("unittest", files, _unittest_starts(checkout, with_tests or cases))


def _pytest_configured(checkout: Path) -> bool:
    if (
        (checkout / "pytest.ini").is_file()
        or (checkout / ".pytest.ini").is_file()
        or (checkout / "pytest.toml").is_file()
    ):
        return True
    tool = toml_read(checkout / "pyproject.toml").get("tool", {})
    if isinstance(tool, dict) and "pytest" in tool:
        return True
    if ini_read(checkout / "tox.ini").has_section("pytest") or ini_read(checkout / "setup.cfg").has_section(
        "tool:pytest"
    ):
        return True
    return any((checkout / folder / "conftest.py").is_file() for folder in (".", "tests", "test", "src"))


def _test_files(checkout: Path) -> tuple[str, ...]:
    found: list[str] = []
    for folder, folders, files in os.walk(checkout):
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED_FOLDERS and not os.path.islink(os.path.join(folder, name))
        )
        relative = Path(folder).relative_to(checkout)
        found += [(relative / name).as_posix() for name in sorted(files) if _TEST_FILE.fullmatch(name)]
        if len(found) > _MAX_FILES:
            break
    return tuple(found[:_MAX_FILES])


def _unittest_starts(checkout: Path, files: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Folders from which discovery finds the files: the top of each package of tests, and what stands outside one."""
    starts: dict[str, str] = {}
    for name in files:
        folder = Path(name).parent
        # Up to the highest folder that is a package; its parent is what the modules are imported from.
        top = folder
        while top != Path() and (checkout / top / "__init__.py").is_file():
            top = top.parent
        start = folder if top == folder else top / folder.relative_to(top).parts[0]
        # Only the tests' own part of a package, not all of it.
        if top != folder and not any("test" in part for part in (start.name,)):
            start = folder
        starts[start.as_posix()] = top.as_posix() if top != folder else start.as_posix()
    kept = [start for start in sorted(starts) if not _below(start, starts)]
    return tuple((start, starts[start]) for start in kept)


def _below(start: str, starts: dict[str, str]) -> bool:
    """Another start finds this one's tests too: they are in packages below it."""
    return any(
        other != start and Path(start).is_relative_to(other) and starts[other] == starts[start] for other in starts
    )
