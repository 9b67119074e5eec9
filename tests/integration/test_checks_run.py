"""Checks are run by the server on what was committed, and nothing inside them can lie about the result."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.projects.checks import CheckReport, CheckSpec, Verification, checks_detect, checks_run, checks_verify
from apps.projects.environment import NO_ENVIRONMENT, Environment
from apps.projects.worktree import worktree_create
from tests.integration.project_sample import project_import, pytest_environment, reachable_home

PYTEST = CheckSpec("pytest", "python -m pytest", "pytest")
BROKEN = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "tests/test_calc.py": "import pytest\nfrom calc import add\n\ndef test_add():\n    assert add(2, 2) == 4\n\n"
    "@pytest.mark.parametrize('n', [1, 2])\ndef test_zero(n):\n    assert add(n, 0) == n\n",
}
FIXED = {**BROKEN, "calc.py": "def add(a, b):\n    return a + b\n"}


@pytest.fixture
def source(tmp_path: Path, settings: Settings) -> Iterator[Path]:
    with reachable_home() as home:
        settings.ARCHON_HOME = home
        settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
        yield tmp_path / "source"


@pytest.fixture(scope="module")
def environment() -> Iterator[Environment]:
    with reachable_home() as folder:
        yield pytest_environment(folder)


def run(commit: str, *specs: CheckSpec, environment: Environment = NO_ENVIRONMENT) -> tuple[CheckReport, ...]:
    return asyncio.run(checks_run(project_id="p", commit=commit, specs=specs, environment=environment))


def verify(
    source: Path, before: dict[str, str], after: dict[str, str], environment: Environment, spec: CheckSpec = PYTEST
) -> Verification:
    async def both() -> Verification:
        base = project_import(source, before)
        earlier = await checks_run(project_id="p", commit=base, specs=[spec], environment=environment)
        commit = project_import(source, after)
        return await checks_verify(
            project_id="p", base_commit=base, commit=commit, specs=[spec], before=earlier,
            base_environment=environment, environment=environment,
        )  # fmt: skip

    return asyncio.run(both())


def test_a_fix_is_verified_test_by_test(source: Path, environment: Environment) -> None:
    verification = verify(source, BROKEN, FIXED, environment)
    (check,) = verification.comparisons
    assert verification.outcome == "verified", verification.reasons
    assert (check.before, check.after, check.fixed) == ("failed", "passed", ("tests/test_calc.py::test_add",))
    assert (check.tests_before, check.tests_after) == (3, 3)
    assert verification.reports[0].tests["tests/test_calc.py::test_zero[1]"] == "passed"


#: Runs the real thing, and takes the failures out of its results.
FORGER = """\
import os, re, subprocess, sys
subprocess.run([sys.executable, "-P", "-m", "pytest", *sys.argv[1:]])
with open("/run/results/junit.xml") as file:
    results = re.sub(r"<failure.*?</failure>", "", file.read(), flags=re.S)
with open("/run/results/junit.xml", "w") as file:
    file.write(re.sub(r'failures="\\d+"', 'failures="0"', results))
os._exit(0)
"""


def test_a_runner_of_the_changes_own_in_the_folder_of_the_check_is_not_believed(
    source: Path, environment: Environment
) -> None:
    before = {f"services/api/{name}": content for name, content in BROKEN.items()} | {"services/api/conftest.py": ""}
    spec = replace(PYTEST, folder="services/api")
    verification = verify(source, before, {**before, "services/api/pytest.py": FORGER}, environment, spec)
    assert verification.outcome == "failing" and verification.reports[0].passed, verification.reports
    assert verification.comparisons[0].passes_only_with_changes, verification.comparisons


def test_the_commit_is_checked_and_not_the_worktree(source: Path, environment: Environment) -> None:
    base = project_import(source, BROKEN)
    worktree = worktree_create(project_id="p", session_id="s", branch="archon/s", base_commit=base)
    (worktree.path / "calc.py").write_text(FIXED["calc.py"])
    (report,) = run(base, PYTEST, environment=environment)
    assert not report.passed and report.exit_code == 1, report.output
    assert report.tests.get("tests/test_calc.py::test_add") == "failed", report.output


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("conftest.py", "import os\nos._exit(0)\n"),
        ("calc.py", "import os\nos._exit(0)\n"),
        ("conftest.py", "def pytest_sessionfinish(session):\n    session.exitstatus = 0\n"),
        ("conftest.py", "def pytest_collection_modifyitems(items):\n    items.clear()\n"),
        ("conftest.py", "def pytest_unconfigure():\n    import os; os._exit(0)\n"),
        ("conftest.py", "import pytest\n@pytest.fixture(autouse=True)\ndef away():\n    pytest.skip('no')\n"),
        ("pytest.ini", "[pytest]\naddopts = --co -q\n"),
        ("pytest.ini", "[pytest]\npython_files = nothing_*.py\n"),
    ],
)
def test_a_run_that_only_looks_well_does_not_pass(
    source: Path, environment: Environment, name: str, content: str
) -> None:
    commit = project_import(source, {**BROKEN, name: content})
    (report,) = run(commit, PYTEST, environment=environment)
    assert not report.passed
    assert report.exit_code != 0 or report.reason


SKIPPING = {
    "tests/test_calc.py": BROKEN["tests/test_calc.py"].replace("def test_add", "@pytest.mark.skip\ndef test_add")
}
FORGED = """\
import pathlib

def pytest_collection_modifyitems(items):
    for item in items:
        item.obj = lambda **given: None

def pytest_pyfunc_call(pyfuncitem):
    return True
"""


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"tests/test_calc.py": "def test_add():\n    assert True\n"}, "failing"),
        ({"tests/test_calc.py": "def test_other():\n    assert True\n"}, "failing"),
        ({"conftest.py": FORGED}, "failing"),
        (SKIPPING, "failing"),
        ({"calc.py": FIXED["calc.py"], "tests/test_calc.py": "def test_more():\n    assert True\n"}, "failing"),
        ({"calc.py": FIXED["calc.py"], "tests/test_more.py": "def test_more():\n    assert True\n"}, "verified"),
        ({"calc.py": FIXED["calc.py"], "tests/test_more.py": "def test_more():\n    assert False\n"}, "failing"),
    ],
)  # fmt: skip
def test_changed_tests_do_not_vouch_for_a_change(
    source: Path, environment: Environment, changes: dict[str, str], outcome: str
) -> None:
    verification = verify(source, BROKEN, {**BROKEN, **changes}, environment)
    assert verification.outcome == outcome, verification.reasons
    assert (outcome == "verified") == (not verification.reasons)


@pytest.mark.parametrize(
    ("before", "changes", "outcome"),
    [
        (BROKEN, {"verify.py": "print('all is well')\n"}, "unverified"),
        (BROKEN, {"calc.py": FIXED["calc.py"]}, "verified"),
        (BROKEN, {"calc.py": FIXED["calc.py"], "verify.py": "from calc import add\nassert add(1, 1) == 2"}, "verified"),
        (FIXED, {"calc.py": BROKEN["calc.py"], "verify.py": "print('all is well')\n"}, "unverified"),
    ],
)
def test_a_script_that_says_that_all_is_well_does_not_vouch_for_its_own_change(
    source: Path, before: dict[str, str], changes: dict[str, str], outcome: str
) -> None:
    script = {"verify.py": "from calc import add\nassert add(2, 1) == 3\n"}
    spec = CheckSpec("verify", "python3 verify.py", "command")
    verification = verify(source, {**before, **script}, {**before, **script, **changes}, NO_ENVIRONMENT, spec)
    assert verification.outcome == outcome, verification.reasons
    told = ("verify: passes only since what it runs was changed: verify.py.",)
    assert verification.reasons == (told if outcome == "unverified" else ())


@pytest.mark.parametrize(
    ("command", "before", "changed", "outcome"),
    [
        # It passed before, and does so no longer but for what was changed.
        ("sh verify.sh", FIXED, "ci/lint.sh", "unverified"),
        ("make verify", FIXED, "ci/lint.sh", "unverified"),
        ("sh ci/check.sh", FIXED, "ci/check.sh", "unverified"),
        # The tests as they were fail, as they did before.
        ("sh ci/check.sh", BROKEN, "ci/check.sh", "failing"),
        # What isn't a part of the checks by its name may be what they are about.
        ("sh verify.sh", FIXED, "bin/tool.sh", "verified"),
    ],
)
def test_scripts_that_a_check_calls_do_not_vouch_for_their_own_change(
    source: Path, command: str, before: dict[str, str], changed: str, outcome: str
) -> None:
    looks = "python3 -c 'from calc import add; assert add(2, 1) == 3'\n"
    scripts = {
        "verify.sh": "set -e\nsh ci/lint.sh\nsh bin/tool.sh\n",
        "Makefile": "verify:\n\tsh ci/lint.sh\n",
        "ci/lint.sh": looks if changed == "ci/lint.sh" else "true\n",
        "ci/check.sh": looks,
        "bin/tool.sh": looks if changed == "bin/tool.sh" else "true\n",
    }
    spec = CheckSpec("verify", command, "command")
    after = {**before, **scripts, "calc.py": BROKEN["calc.py"], changed: "true\n"}
    verification = verify(source, {**before, **scripts}, after, NO_ENVIRONMENT, spec)
    assert verification.outcome == outcome, verification.reasons
    if outcome == "unverified":
        assert verification.reasons == (f"verify: passes only since what it runs was changed: {changed}.",)


def test_tests_that_a_change_removes_are_missed(source: Path, environment: Environment) -> None:
    fewer = {**FIXED, "tests/test_calc.py": "from calc import add\n\ndef test_add():\n    assert add(2, 2) == 4\n"}
    verification = verify(source, FIXED, fewer, environment)
    assert verification.outcome == "unverified"
    assert len(verification.comparisons[0].disappeared) == 2
    assert verification.comparisons[0].changed_test_files == ("tests/test_calc.py",)


def test_unittest_is_read_test_by_test(source: Path, environment: Environment) -> None:
    tests = (
        "import unittest\nfrom calc import add\n\nclass CalcTest(unittest.TestCase):\n"
        "    def test_add(self):\n        self.assertEqual(add(2, 2), 4)\n"
        "    def test_many(self):\n        for n in (0, 1):\n            with self.subTest(n=n):\n"
        "                self.assertEqual(add(0, n), -n)\n"
        "    @unittest.skip('later')\n    def test_later(self): pass\n    def test_raises(self): raise OSError\n"
    )
    commit = project_import(
        source, {"calc.py": BROKEN["calc.py"], "tests/__init__.py": "", "tests/test_calc.py": tests}
    )
    specs = checks_detect(checkout=source)
    assert [spec.runner for spec in specs] == ["unittest"]
    (report,) = run(commit, *specs, environment=environment)
    assert (report.passed, report.exit_code) == (False, 1)
    prefix = "tests.test_calc.CalcTest."
    assert {name.removeprefix(prefix): result for name, result in report.tests.items()} == {
        "test_add": "failed",
        "test_many": "passed",
        "test_later": "skipped",
        "test_raises": "error",
    }


def test_a_unittest_run_that_found_nothing_does_not_pass(source: Path, environment: Environment) -> None:
    commit = project_import(source, {"a.py": "x = 1\n"})
    (report,) = run(commit, CheckSpec("u", "python -m unittest discover", "unittest"), environment=environment)
    assert not report.passed and "no test" in report.reason, report.output


def test_given_commands_are_judged_by_their_exit_code(source: Path) -> None:
    commit = project_import(source, {"a.py": "x = 1\n"})
    specs = [
        CheckSpec(command, command, "command")
        for command in ("grep -q x a.py", "exit 7", "rm a.py && kill -9 $$", "test -e a.py")
    ]
    reports = run(commit, *specs)
    assert [report.passed for report in reports] == [True, False, False, True]
    assert reports[1].exit_code == 7


def test_a_check_sees_nothing_to_change_and_nobody_to_call(source: Path, environment: Environment) -> None:
    commit = project_import(source, {"a.py": "x = 1\n"})
    commands = (
        "! touch /env/mark 2>/dev/null",
        "! python -c \"import socket; socket.create_connection(('127.0.0.1', 5432), 1)\" 2>/dev/null",
        "git log --oneline | grep -q Change",
        f"test ! -e {os.getcwd()}/manage.py",
    )
    reports = run(commit, *(CheckSpec(command, command, "command") for command in commands), environment=environment)
    assert [report.command for report in reports if not report.passed] == []


def test_a_check_that_does_not_end_is_stopped(source: Path, settings: Settings) -> None:
    settings.ARCHON_CHECK_SECONDS = 1
    commit = project_import(source, {"a.py": "x = 1\n"})
    (report,) = run(commit, CheckSpec("c", "echo begun; sleep 600", "command"))
    assert (report.passed, report.exit_code, report.killed) == (False, None, "timeout")
    assert "begun" in report.output and not list((settings.ARCHON_HOME / "checks").iterdir())


def test_endless_output_is_cut(source: Path) -> None:
    commit = project_import(source, {"a.py": "x = 1\n"})
    (report,) = run(
        commit, CheckSpec("c", "head -c 3000000 /dev/zero | tr '\\0' 'x' | fold -w 80; echo the end", "command")
    )
    assert report.passed and len(report.output.encode()) <= 20_000 and report.output.endswith("the end\n")
