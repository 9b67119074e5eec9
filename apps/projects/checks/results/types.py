"""What a reader of results returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apps.core.storable import text_storable
from apps.projects.checks.types import TestResult

_MAX_NAME = 500
_MAX_TESTS = 200_000
#: The worse one counts when a test is reported twice (its teardown failed, a subtest did).
_WEIGHT: dict[TestResult, int] = {"skipped": 0, "passed": 1, "failed": 2, "error": 3}


@dataclass(frozen=True)
class RunnerResults:
    """Results by the test's name."""

    tests: Mapping[str, TestResult] = field(default_factory=dict)
    #: Why these can't be all that there should be, as the end of "the run ended, but …"; empty when nothing speaks
    #: against it.
    problem: str = ""


NO_RESULTS = RunnerResults()


def results_merge(found: Iterable[tuple[str, TestResult]]) -> dict[str, TestResult]:
    """One result for each name, the worst one, with names as they can be stored."""
    tests: dict[str, TestResult] = {}
    for name, result in found:
        name = text_storable(name).strip()[:_MAX_NAME]
        if not name or (name not in tests and len(tests) >= _MAX_TESTS):
            continue
        if name not in tests or _WEIGHT[result] > _WEIGHT[tests[name]]:
            tests[name] = result
    return tests


def names_numbered(names: Iterable[str]) -> list[str]:
    """The names in order, the second of the same name as ``name (2)`` and so on."""
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        seen[name] = number = seen.get(name, 0) + 1
        numbered.append(name if number == 1 else f"{name} ({number})")
    return numbered
