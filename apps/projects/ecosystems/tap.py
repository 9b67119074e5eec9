"""The Test Anything Protocol, which many a ``make test`` speaks."""

from __future__ import annotations

import re

from apps.projects.ecosystems.named_results import names_numbered, results_named
from apps.projects.ecosystems.types import TestResult

_PLAN = re.compile(r"1\.\.(\d{1,9})(\s*#.*)?")
_TEST = re.compile(r"(not )?ok\b(?: +(\d{1,9}))?(?: +-)?(?: *([^#]*?))?(?: *# *(\w+)?.*)?", re.IGNORECASE)


def tap_read(text: str) -> dict[str, TestResult]:
    """Results by test, named by its description or else its number.

    None when the text isn't TAP throughout: without a plan that the tests add up to, lines that begin with "ok" are
    just lines. Several programs may speak one after the other.
    """
    planned = 0
    found: list[tuple[str, TestResult]] = []
    plans = 0
    for line in text.splitlines():
        line = line.rstrip()
        if line.startswith("Bail out!"):
            return results_named([(line, "error")])
        if (match := _PLAN.fullmatch(line)) is not None:
            plans += 1
            planned += int(match[1])
        elif (match := _TEST.fullmatch(line)) is not None:
            failed, number, description, directive = match.groups()
            found.append(
                ((description or "").strip() or f"test {number or len(found) + 1}", _result(failed, directive))
            )
    if not plans or planned != len(found):
        return {}
    names = names_numbered(name for name, _ in found)
    return results_named(zip(names, (result for _, result in found), strict=True))


def _result(failed: str | None, directive: str | None) -> TestResult:
    said = (directive or "").lower()
    if said.startswith("skip") or (said == "todo" and failed):
        return "skipped"
    return "failed" if failed else "passed"
