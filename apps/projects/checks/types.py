"""What a project's checks are described by, and what came of running them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from apps.projects.ecosystems.types import TestResult

__all__ = ["CheckComparison", "CheckReport", "CheckSpec", "CheckState", "Outcome", "TestResult", "Verification"]

#: `flaky`: it failed, and passed on the same commit when it was run again.
CheckState = Literal["passed", "failed", "flaky"]
Outcome = Literal["verified", "unverified", "failing"]


@dataclass(frozen=True)
class CheckSpec:
    """One command that tells whether the code works."""

    name: str
    #: A shell command line.
    command: str
    #: Whose results are read test by test (a runner of an ecosystem's); `command`: only the exit code counts.
    runner: str
    #: The folder of the checkout that it runs in; empty: the checkout itself.
    folder: str = ""
    #: Whose check it is, where that is known.
    ecosystem: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What one check came to on one commit."""

    name: str
    command: str
    passed: bool
    #: As the kernel told the host; None when it was killed.
    exit_code: int | None
    #: Why it was killed: empty, `timeout`, `memory`, `disk`, `output`.
    killed: str
    #: The end of what it printed.
    output: str
    seconds: float
    #: By the test's name; empty when the runner isn't known or wrote no results.
    tests: Mapping[str, TestResult] = field(default_factory=dict)
    #: Why it did not pass, where the exit code doesn't say it.
    reason: str = ""
    #: Tests (or the check itself, where it doesn't tell them) that both failed and passed on this commit.
    flaky: tuple[str, ...] = ()
    #: It failed only by flaky tests: the whole of it passed when it was run again.
    passes_again: bool = False
    #: How often it, or some of its tests, were run again.
    reruns: int = 0


@dataclass(frozen=True)
class CheckComparison:
    """One check before and after a change."""

    name: str
    #: None when the check wasn't run there.
    before: CheckState | None
    after: CheckState | None
    #: Tests that failed before, and pass now whenever they are run.
    fixed: tuple[str, ...]
    #: Tests that failed before and fail now.
    still_failing: tuple[str, ...]
    #: Tests that fail now and did not fail before.
    newly_failing: tuple[str, ...]
    #: Tests that passed before and are gone or skipped now.
    disappeared: tuple[str, ...]
    #: Tests that failed before and are gone or skipped now.
    vanished_failures: tuple[str, ...]
    #: Tests that ran.
    tests_before: int
    tests_after: int
    #: Test files that the change touches, of any check.
    changed_test_files: tuple[str, ...]
    #: Files that the change touches and that configure a check.
    changed_check_config: tuple[str, ...]
    #: Tests that failed before and pass only with the changed tests or configuration.
    passes_only_with_changes: tuple[str, ...] = ()
    #: Tests that passed before and, in their original form, no longer do.
    broken_originals: tuple[str, ...] = ()
    #: Why the check did not pass after the change.
    reason: str = ""
    #: Tests that fail on that commit whenever they are run.
    failing_before: tuple[str, ...] = ()
    failing_after: tuple[str, ...] = ()
    #: Tests that both failed and passed on one commit, after the change and before it.
    flaky: tuple[str, ...] = ()
    flaky_before: tuple[str, ...] = ()
    #: Of the flaky ones after the change: those that failed before, and so are not fixed; and those that were just as
    #: flaky before, where they happened to pass.
    fixed_sometimes: tuple[str, ...] = ()
    flaky_as_before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """All that the server found out about a commit."""

    outcome: Outcome
    #: For people; empty when verified.
    reasons: tuple[str, ...]
    comparisons: tuple[CheckComparison, ...]
    reports: tuple[CheckReport, ...]
