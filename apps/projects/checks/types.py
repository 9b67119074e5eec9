"""What a project's checks are described by, and what came of running them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from apps.projects.ecosystems.types import TestResult

__all__ = ["CheckComparison", "CheckReport", "CheckSpec", "CheckState", "Outcome", "TestResult", "Verification"]

CheckState = Literal["passed", "failed"]
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


@dataclass(frozen=True)
class CheckComparison:
    """One check before and after a change."""

    name: str
    #: None when the check wasn't run there.
    before: CheckState | None
    after: CheckState | None
    #: Tests that failed before and pass now.
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


@dataclass(frozen=True)
class Verification:
    """All that the server found out about a commit."""

    outcome: Outcome
    #: For people; empty when verified.
    reasons: tuple[str, ...]
    comparisons: tuple[CheckComparison, ...]
    reports: tuple[CheckReport, ...]
