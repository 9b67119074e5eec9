"""JUnit XML, as pytest, Surefire and Failsafe, Gradle, ctest, PHPUnit and many others write it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path

from apps.projects.checks.results.files import result_file_read
from apps.projects.checks.results.types import results_merge
from apps.projects.checks.types import TestResult
from apps.projects.workspace import SANDBOX_WORKSPACE

_RESULTS: dict[str, TestResult] = {"failure": "failed", "error": "error", "skipped": "skipped", "warning": "failed"}
#: Within one test's entry a skip outweighs the pass that is presumed.
_WEIGHT: dict[TestResult, int] = {"passed": 0, "skipped": 1, "failed": 2, "error": 3}
#: What ctest says of a test that it was told not to run, in place of an element.
_NOT_RUN = {"disabled", "notrun"}
#: PHPUnit's word for a test without assertions, which fails only where the project wants that; the exit code knows.
_RISKY = "RiskyTestError"


def junit_read(path: Path) -> dict[str, TestResult]:
    """Results by test; empty when there is no such file or it is none."""
    content = result_file_read(path)
    return {} if content is None else junit_read_all([content])


def junit_read_all(contents: Iterable[bytes]) -> dict[str, TestResult]:
    """Results by test out of several documents; one that is none counts for nothing."""
    return results_merge(case for content in contents for case in _cases(content))


def _cases(content: bytes) -> Iterator[tuple[str, TestResult]]:
    # Entities are how small files become large ones, and another encoding is how they would be hidden.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        return
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError):
        return
    for case in root.iter("testcase"):
        result: TestResult = "skipped" if case.get("status") in _NOT_RUN else "passed"
        for child in case:
            if _RISKY not in child.get("type", ""):
                result = max(result, _RESULTS.get(child.tag, "passed"), key=lambda found: _WEIGHT[found])
        yield _name(case), result


def _name(case: ElementTree.Element) -> str:
    """``file::Class::test`` where the file is told, else the dotted name."""
    file, classname, name = case.get("file", ""), case.get("classname", ""), case.get("name", "")
    file = file.removeprefix(f"{SANDBOX_WORKSPACE}/")
    if not file:
        return name if classname == name else f"{classname}.{name}".strip(".")
    module = file.removesuffix(".py").replace("/", ".")
    inner = classname.removeprefix(module).strip(".").replace(".", "::") if classname.startswith(module) else classname
    return "::".join(part for part in (file, inner, name) if part)
