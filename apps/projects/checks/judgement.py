"""What a change did to the checks, and what its result is worth. Plain functions over reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from apps.projects.checks.types import (
    CheckComparison,
    CheckReport,
    CheckState,
    Outcome,
    TestResult,
)
from apps.projects.ecosystems.registry import is_check_configuration, is_test_file

_SHOWN = 5


def checks_compare(
    *,
    before: Sequence[CheckReport],
    after: Sequence[CheckReport],
    changed_files: Sequence[str],
    in_the_way: Sequence[str] = (),
    with_originals: Sequence[CheckReport] = (),
) -> tuple[CheckComparison, ...]:
    """Each check before and after the change. ``with_originals``: the changed commit with the tests, the configuration
    and what is in the runner's way as they were before, run when any of it was changed."""
    earlier = {report.name: report for report in before}
    later = {report.name: report for report in after}
    original = {report.name: report for report in with_originals}
    test_files = tuple(sorted(path for path in changed_files if is_test_file(path)))
    configuration = tuple(sorted({*in_the_way, *(path for path in changed_files if is_check_configuration(path))}))
    comparisons = []
    for name in dict.fromkeys((*earlier, *later)):
        old, new, kept = earlier.get(name), later.get(name), original.get(name)
        was: Mapping[str, TestResult] = old.tests if old else {}
        now: Mapping[str, TestResult] = new.tests if new else {}
        flaky_was = set(old.flaky) if old else set()
        flaky_now = (set(new.flaky) if new else set()) | (set(kept.flaky) if kept else set())
        # A test that only sometimes fails says nothing by passing once, and one that only sometimes passes is broken.
        failed = [test for test in was if _failing(was, test) and test not in flaky_was]
        if not was and old is not None and not old.passed and name not in flaky_was:
            failed.append(name)
        fails = [test for test in now if _failing(now, test) and test not in flaky_now]
        mended = [test for test in failed if now.get(test) == "passed"]
        fixed = tuple(test for test in mended if test not in flaky_now)
        only_with_changes: tuple[str, ...] = ()
        broken: tuple[str, ...] = ()
        if kept is not None:
            lost = {test for test in was if kept.tests.get(test) != "passed" and test not in kept.flaky}
            # Also what was flaky before: that it passes now is no merit of a change that has to change tests for it.
            only_with_changes = tuple(
                test for test in was if test in lost and _failing(was, test) and now.get(test) == "passed"
            )
            broken = tuple(test for test in was if test in lost and was[test] == "passed")
        comparisons.append(
            CheckComparison(
                name=name,
                before=_state(old),
                after=_state(new),
                fixed=fixed,
                still_failing=tuple(test for test in failed if test in fails),
                newly_failing=tuple(test for test in fails if test not in failed),
                disappeared=tuple(test for test in was if was[test] == "passed" and _gone(now, test)),
                vanished_failures=tuple(test for test in was if _failing(was, test) and _gone(now, test)),
                tests_before=sum(result != "skipped" for result in was.values()),
                tests_after=sum(result != "skipped" for result in now.values()),
                changed_test_files=test_files,
                changed_check_config=configuration,
                passes_only_with_changes=only_with_changes,
                broken_originals=broken,
                reason=new.reason if new else "the check was not run",
                failing_before=tuple(test for test in failed if test in was),
                failing_after=tuple(fails),
                flaky=tuple(sorted(flaky_now)),
                flaky_before=tuple(sorted(flaky_was)),
                fixed_sometimes=tuple(test for test in failed if test in flaky_now),
                flaky_as_before=tuple(
                    sorted(
                        test
                        for test in flaky_now & flaky_was
                        if was.get(test) == "passed" or (not was and old is not None and old.passed)
                    )
                ),
            )
        )
        if (
            kept is not None
            and old is not None
            and not old.passed
            and new is not None
            and (new.passed or new.passes_again)
            and not was
        ):
            # Nothing is known test by test: the check as a whole is compared.
            comparisons[-1] = _whole(comparisons[-1], kept)
    return tuple(comparisons)


def outcome_judge(comparisons: Sequence[CheckComparison]) -> tuple[Outcome, tuple[str, ...]]:
    """What a change is worth, and what speaks against it."""
    if not comparisons:
        return "unverified", ("There are no checks.",)
    failing: list[str] = []
    doubtful: list[str] = []
    for check in comparisons:
        if check.after not in ("passed", "flaky"):
            listed = f"; newly failing: {_listed(check.newly_failing)}" if check.newly_failing else ""
            listed += f"; failing as before: {_listed(check.still_failing)}" if check.still_failing else ""
            failing.append(f"{check.name} does not pass: {check.reason}{listed}.")
        if check.vanished_failures:
            failing.append(f"{check.name}: failed before, gone or skipped now: {_listed(check.vanished_failures)}.")
        if check.fixed_sometimes:
            failing.append(f"{check.name}: failed before, passes only now and then: {_listed(check.fixed_sometimes)}.")
        if check.passes_only_with_changes:
            failing.append(f"{check.name}: passes only with changed tests: {_listed(check.passes_only_with_changes)}.")
        if check.disappeared:
            doubtful.append(f"{check.name}: passed before, gone or skipped now: {_listed(check.disappeared)}.")
        hidden = [test for test in check.broken_originals if test not in check.disappeared]
        if hidden:
            doubtful.append(f"{check.name}: these pass only since they were changed: {_listed(hidden)}.")
        flaky = [test for test in check.flaky if test not in (*check.fixed_sometimes, *check.flaky_as_before)]
        if flaky:
            doubtful.append(f"{check.name}: flaky, failed and passed on the same commit: {_listed(flaky)}.")
    if failing:
        return "failing", (*failing, *doubtful)
    return ("unverified", tuple(doubtful)) if doubtful else ("verified", ())


def original_paths(changed_files: Sequence[str]) -> tuple[str, ...]:
    """The changed files that have to be put back to see whether the original tests pass."""
    return tuple(sorted(path for path in changed_files if is_test_file(path) or is_check_configuration(path)))


def _whole(comparison: CheckComparison, kept: CheckReport) -> CheckComparison:
    return comparison if kept.passed else replace(comparison, passes_only_with_changes=(comparison.name,))


def _state(report: CheckReport | None) -> CheckState | None:
    if report is None:
        return None
    return "passed" if report.passed else "flaky" if report.passes_again else "failed"


def _failing(tests: Mapping[str, TestResult], test: str) -> bool:
    return tests.get(test) in ("failed", "error")


def _gone(tests: Mapping[str, TestResult], test: str) -> bool:
    return tests.get(test, "skipped") == "skipped"


def _listed(tests: Sequence[str]) -> str:
    more = f" and {len(tests) - _SHOWN} more" if len(tests) > _SHOWN else ""
    return ", ".join(tests[:_SHOWN]) + more
