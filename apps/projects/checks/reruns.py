"""Telling tests that fail from tests that fail now and then: by running them again on the same commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from django.conf import settings

from apps.projects.checks.running import check_execute, check_judge
from apps.projects.checks.types import CheckReport, CheckSpec, TestResult
from apps.projects.ecosystems.registry import runner_get
from apps.projects.ecosystems.types import RunnerCall
from apps.projects.environment.types import Environment

#: When more than this fail, chance is not what ails them.
_MAX_TESTS = 50


@dataclass(frozen=True)
class Again:
    """Where checks are run again."""

    project_id: object
    commit: str
    environment: Environment
    on_progress: Callable[[str], None] | None = None


@dataclass(frozen=True)
class _Run:
    tests: Mapping[str, TestResult]
    passed: bool
    whole: bool


def is_failing(tests: Mapping[str, TestResult], test: str) -> bool:
    return tests.get(test) in ("failed", "error")


async def failures_rerun(
    again: Again,
    spec: CheckSpec,
    report: CheckReport,
    *,
    but: Collection[str] = (),
    whole: bool = False,
    times: int | None = None,
) -> CheckReport:
    """Run what failed again, but for the tests in ``but``; what then passes is flaky.

    A check that doesn't tell its tests is run again as a whole, once. With ``whole``, a check of which nothing but
    flaky tests failed is run once more from end to end: only that shows that nothing else was wrong with it.
    """
    if report.passed or report.killed or settings.ARCHON_CHECK_RERUNS < 1 or report.exit_code is None:
        return report
    if not report.tests:
        run = await _run(again, spec, ())
        flaky = (report.name,) if run.passed else ()
        return replace(report, flaky=flaky, passes_again=run.passed, reruns=report.reruns + 1)
    left = {test for test in report.tests if is_failing(report.tests, test) and test not in but}
    if len(left) > _MAX_TESTS:
        return report
    found = set(report.flaky)
    passes_again, reruns = False, 0
    for _ in range(settings.ARCHON_CHECK_RERUNS if times is None else times):
        if not left:
            break
        run = await _run(again, spec, tuple(sorted(left)))
        reruns += 1
        passed = {test for test in left if run.tests.get(test) == "passed"}
        left -= passed
        found |= passed | _failed_only_now(run, report)
        passes_again = passes_again or (run.whole and run.passed)
        if run.whole:
            # Nothing less than all of it can be run, which takes its time.
            break
    nothing_else = not left and not but and bool(found)
    if whole and nothing_else and not passes_again:
        run = await _run(again, spec, ())
        reruns += 1
        passes_again = run.passed
        found |= _failed_only_now(run, report)
    return replace(
        report,
        flaky=tuple(sorted(found)),
        passes_again=passes_again and nothing_else,
        reruns=report.reruns + reruns,
    )


async def passes_rerun(again: Again, spec: CheckSpec, report: CheckReport, tests: Collection[str]) -> CheckReport:
    """Run tests that passed again; what then fails is flaky. For a check that doesn't tell its tests: all of it."""
    if settings.ARCHON_CHECK_RERUNS < 1 or not tests:
        return report
    found = set(report.flaky)
    reruns = 0
    for _ in range(settings.ARCHON_CHECK_RERUNS):
        run = await _run(again, spec, tuple(sorted(tests)) if report.tests else ())
        reruns += 1
        if report.tests:
            found |= {test for test in tests if is_failing(run.tests, test)}
        elif not run.passed:
            found.add(report.name)
        if run.whole or found.issuperset(tests):
            break
    return replace(report, flaky=tuple(sorted(found)), reruns=report.reruns + reruns)


async def _run(again: Again, spec: CheckSpec, tests: tuple[str, ...]) -> _Run:
    """Run these tests, and no more than the runner must; none given, or none that it can pick: all of them."""
    whole = RunnerCall(spec.command, again.environment.env)
    select = runner_get(spec.runner).select
    selected = select(whole, tests) if select is not None and 0 < len(tests) <= _MAX_TESTS else None
    for call in (selected, whole):
        if call is None:
            continue
        result, results = await check_execute(
            again.project_id, again.commit, spec, call, again.environment, again.on_progress
        )
        # A test that was asked for and didn't run has a name that the runner doesn't know it by.
        if call is whole or all(results.get(test, "skipped") != "skipped" for test in tests):
            return _Run(results, check_judge(spec, result, results)[0], whole=call is whole)
    raise AssertionError("the whole check was run")


def _failed_only_now(run: _Run, report: CheckReport) -> set[str]:
    """Tests of a complete run that failed in it and passed at first."""
    if not run.whole:
        return set()
    return {test for test, result in report.tests.items() if result == "passed" and is_failing(run.tests, test)}
