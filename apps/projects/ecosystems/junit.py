"""Reading a JUnit document that came out of a sandbox, and so may hold anything."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

from apps.projects.ecosystems.types import TestResult
from apps.projects.workspace import SANDBOX_WORKSPACE

_MAX_NAME = 500
_PIECE = 1 << 16
#: The worse one counts when a test is reported twice (its teardown failed, a subtest did).
_WEIGHT: dict[TestResult, int] = {"skipped": 0, "passed": 1, "failed": 2, "error": 3}
_RESULTS: dict[str, TestResult] = {"failure": "failed", "error": "error", "skipped": "skipped", "warning": "failed"}
#: What ctest says of a test that it was told not to run, in place of an element.
_NOT_RUN = {"disabled", "notrun"}
#: PHPUnit's word for a test without assertions, which fails only where the project wants that; the exit code knows.
_RISKY = "RiskyTestError"


def junit_parse(content: bytes) -> dict[str, TestResult]:
    """Results by test; empty when it is no JUnit document."""
    # Entities are how small files become large ones, and another encoding is how they would be hidden.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        return {}
    tests: dict[str, TestResult] = {}
    try:
        for case in _cases(content):
            name = _name(case)
            result: TestResult = "skipped" if case.get("status") in _NOT_RUN else "passed"
            for child in case:
                if _RISKY in child.get("type", ""):
                    continue
                result = max(result, _RESULTS.get(child.tag, "passed"), key=_weight_found)
            if name not in tests or _WEIGHT[result] > _WEIGHT[tests[name]]:
                tests[name] = result
    except (ElementTree.ParseError, ValueError, LookupError):
        return {}
    return tests


def _cases(content: bytes) -> Iterator[ElementTree.Element]:
    """The test cases one by one; what was seen is let go, since all of a large document would be larger still."""
    parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(events=("start", "end"))
    open_elements: list[ElementTree.Element] = []
    inside = 0
    for start in range(0, len(content), _PIECE):
        parser.feed(content[start : start + _PIECE])
        events: Iterator[Any] = parser.read_events()
        for event, element in events:
            is_case = element.tag == "testcase"
            if event == "start":
                open_elements.append(element)
                inside += is_case
                continue
            open_elements.pop()
            inside -= is_case
            if is_case:
                yield element
            if not inside and open_elements:
                open_elements[-1].remove(element)
    parser.close()


def _weight_found(result: TestResult) -> int:
    """Within one test's entry a skip outweighs the pass that is presumed."""
    return {"passed": 0, "skipped": 1, "failed": 2, "error": 3}[result]


def _name(case: ElementTree.Element) -> str:
    """``file::Class::test`` where the file is told, else the dotted name."""
    file, classname, name = case.get("file", ""), case.get("classname", ""), case.get("name", "")
    file = file.removeprefix(f"{SANDBOX_WORKSPACE}/")
    if not file:
        return (name if classname == name else f"{classname}.{name}".strip("."))[:_MAX_NAME]
    module = file.removesuffix(".py").replace("/", ".")
    inner = classname.removeprefix(module).strip(".").replace(".", "::") if classname.startswith(module) else classname
    return "::".join(part for part in (file, inner, name) if part)[:_MAX_NAME]
