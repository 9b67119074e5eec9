"""What a change is worth follows from its checks before and after, and from the files it touched."""

from __future__ import annotations

import pytest

from apps.projects.checks.judgement import (
    checks_compare,
    original_paths,
    outcome_judge,
)
from apps.projects.checks.types import CheckReport, Outcome, TestResult
from apps.projects.ecosystems.python import modules_in_the_way
from apps.projects.ecosystems.registry import is_check_configuration, is_test_file, paths_in_the_way

Tests = dict[str, TestResult]


def report(tests: Tests, passed: bool | None = None, name: str = "pytest") -> CheckReport:
    went_well = all(result in ("passed", "skipped") for result in tests.values()) if passed is None else passed
    return CheckReport(name, "python -m pytest", went_well, 0 if went_well else 1, "", "", 0.1, tests)


def judge(
    before: Tests, after: Tests, changed: tuple[str, ...] = ("src/a.py",), originals: Tests | None = None
) -> Outcome:
    kept = [] if originals is None else [report(originals)]
    return outcome_judge(
        checks_compare(before=[report(before)], after=[report(after)], changed_files=changed, with_originals=kept)
    )[0]


def test_a_fix_is_verified() -> None:
    (comparison,) = checks_compare(
        before=[report({"a": "failed", "b": "passed"})],
        after=[report({"a": "passed", "b": "passed"})],
        changed_files=["x.py"],
    )
    assert (comparison.before, comparison.after, comparison.fixed) == ("failed", "passed", ("a",))
    assert (comparison.tests_before, comparison.tests_after) == (2, 2)
    assert outcome_judge([comparison]) == ("verified", ())


def test_without_checks_nothing_is_verified() -> None:
    assert outcome_judge(())[0] == "unverified"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": "failed"}, {"a": "failed"}, "failing"),
        ({"a": "passed"}, {"a": "failed"}, "failing"),
        ({"a": "failed", "b": "passed"}, {"b": "passed"}, "failing"),
        ({"a": "error", "b": "passed"}, {"a": "skipped", "b": "passed"}, "failing"),
        ({"a": "passed", "b": "passed"}, {"b": "passed"}, "unverified"),
        ({"a": "passed", "b": "passed"}, {"a": "skipped", "b": "passed"}, "unverified"),
        ({"a": "passed"}, {"a": "passed", "new": "passed"}, "verified"),
        ({"a": "skipped", "b": "passed"}, {"b": "passed"}, "verified"),
    ],
)
def test_tests_that_fail_or_go_missing_count(before: Tests, after: Tests, expected: Outcome) -> None:
    assert judge(before, after) == expected


def test_a_test_that_was_changed_to_pass_does_not_count() -> None:
    changed = ("tests/test_a.py",)
    assert judge({"a": "failed"}, {"a": "passed"}, changed, originals={"a": "failed"}) == "failing"
    assert judge({"a": "failed"}, {"a": "passed"}, changed, originals={"a": "passed"}) == "verified"
    assert judge(
        {"a": "failed", "b": "passed"}, {"a": "passed", "b": "passed"}, changed, {"a": "passed", "b": "failed"}
    ) == ("unverified")


def test_a_check_without_single_results_is_compared_as_a_whole() -> None:
    before, after, kept = report({}, False, "make"), report({}, True, "make"), report({}, False, "make")
    changed = ["tests/run.sh"]
    assert outcome_judge(checks_compare(before=[before], after=[after], changed_files=changed))[0] == "verified"
    compared = checks_compare(before=[before], after=[after], changed_files=changed, with_originals=[kept])
    assert outcome_judge(compared)[0] == "failing"


def test_a_check_that_was_not_run_any_more_is_failing() -> None:
    outcome, reasons = outcome_judge(checks_compare(before=[report({"a": "passed"})], after=[], changed_files=[]))
    assert outcome == "failing" and "not run" in reasons[0]


def test_files_are_told_apart() -> None:
    assert [
        path
        for path in ("conftest.py", "a/conftest.py", "tox.ini", "setup.cfg", "src/sitecustomize.py")
        if not is_check_configuration(path)
    ] == []
    assert is_test_file("tests/data/x.json") and is_test_file("pkg/test_a.py") and is_test_file("a_test.go")
    assert not is_test_file("src/testimony.py") and not is_test_file("tests/conftest.py")
    assert original_paths(["src/a.py", "tests/test_a.py", "pytest.ini"]) == ("pytest.ini", "tests/test_a.py")


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("pytest.py", True),
        ("pytest/__main__.py", True),
        ("src/freezegun.py", True),
        ("json.pyc", True),
        ("calc/json.py", False),
        ("calc.py", False),
        ("docs/pytest.py", False),
        ("queue/more.py", False),
        ("new.py", False),
    ],
)
def test_new_modules_before_installed_ones_are_in_the_way(changed: str, found: bool) -> None:
    before = ["calc.py", "queue/__init__.py", "src/app/__init__.py"]
    expected = (changed,) if found else ()
    assert modules_in_the_way([changed], before=before, installed={"pytest", "freezegun", "calc"}) == expected


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        # Where the check starts, and what lies beside it there.
        ("services/api/pytest.py", True),
        ("services/api/pytest/__main__.py", True),
        ("services/api/src/json.py", True),
        # pytest looks in the first folder above a test that is no package.
        ("loose/freezegun.py", True),
        ("services/api/app/json.py", False),
        ("services/web/pytest.py", False),
        ("services/api/calc.py", False),
    ],
)
def test_modules_are_in_the_way_where_a_check_starts_and_beside_its_tests(changed: str, found: bool) -> None:
    before = ["services/api/calc.py", "services/api/app/__init__.py", "services/api/app/test_a.py", "loose/test_b.py"]
    expected = (changed,) if found else ()
    names = {"pytest", "freezegun", "calc"}
    found_there = modules_in_the_way([changed], before=before, installed=names, folders=["services/api"])
    assert found_there == expected


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("lib/rspec/expectations.rb", True),
        ("gems/calc/lib/rspec.rb", True),
        ("spec/rspec/core/formatters.rb", True),
        ("lib/json.rb", True),
        ("lib/calc/json.rb", False),
        ("lib/rspectacular.rb", False),
        ("lib/diff.rb", False),
    ],
)
def test_what_rspec_would_take_for_its_own_is_in_the_way(changed: str, found: bool) -> None:
    there = paths_in_the_way([changed], before=["lib/diff.rb"], environment=None, folders=["gems/calc"])
    # Python has a json of its own as well, and looks in lib for it.
    assert (changed in there) is found
