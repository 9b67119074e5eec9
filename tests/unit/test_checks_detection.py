"""The checks of a checkout are found, given commands are understood, and results are read with suspicion."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apps.projects.checks.detection import checks_detect, command_runner
from apps.projects.checks.running import check_command, check_judge
from apps.projects.checks.types import CheckSpec
from apps.projects.ecosystems.results import junit_read
from apps.projects.workspace import CommandResult


def checkout(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


BASE_CASE = "import unittest\n\nclass Base(unittest.TestCase):\n    def assertNice(self): ...\n"
CASE = "import unittest\n\nclass A(unittest.TestCase):\n    def test_a(self): pass\n"


@pytest.mark.parametrize(
    ("files", "commands"),
    [
        ({"a.py": "x = 1\n"}, []),
        ({"tests/test_a.py": "def test_a(): pass\n"}, ["python -m pytest"]),
        ({"tests/test_a.py": CASE, "pytest.ini": "[pytest]\n"}, ["python -m pytest"]),
        ({"tests/test_a.py": CASE, "pyproject.toml": "[tool.pytest.ini_options]\n"}, ["python -m pytest"]),
        ({"tests/test_a.py": CASE, "tests/conftest.py": ""}, ["python -m pytest"]),
        ({"tests/test_a.py": "class TestA:\n    def test_a(self): pass\n"}, ["python -m pytest"]),
        ({"tests/test_a.py": CASE}, ["python -m unittest discover -v -s tests -t tests"]),
        ({"tests/test_a.py": CASE, "tests/__init__.py": ""}, ["python -m unittest discover -v -s tests -t ."]),
        ({"test_a.py": CASE}, ["python -m unittest discover -v -s . -t ."]),
        (
            # A package's own helpers for testing are no tests.
            {"pkg/__init__.py": "", "pkg/test_tools.py": BASE_CASE, "tests/__init__.py": "", "tests/test_a.py": CASE},
            ["python -m unittest discover -v -s tests -t ."],
        ),
        (
            {"src/pkg/__init__.py": "", "src/pkg/tests/__init__.py": "", "src/pkg/tests/test_a.py": CASE},
            ["python -m unittest discover -v -s src/pkg/tests -t src"],
        ),
        ({"node_modules/x/test_a.py": CASE}, []),
    ],
)
def test_a_checkout_tells_its_checks(tmp_path: Path, files: dict[str, str], commands: list[str]) -> None:
    assert [spec.command for spec in checks_detect(checkout=checkout(tmp_path, files))] == commands


@pytest.mark.parametrize(
    ("command", "runner"),
    [
        ("pytest -x tests", "pytest"),
        ("python -m pytest 'tests/test_a.py::test[1]'", "pytest"),
        ("python3 -m unittest -v", "unittest"),
        ("make test", "command"),
        ("pytest || true", "command"),
        ("true; pytest", "command"),
        ("FOO=1 pytest", "command"),
        ("pytest $(echo x)", "command"),
        ("pytest 'unclosed", "command"),
        ("python -c 'import pytest'", "command"),
    ],
)
def test_only_a_plain_call_of_a_runner_is_one(command: str, runner: str) -> None:
    assert command_runner(command) == runner


def test_given_commands_get_names_of_their_own(tmp_path: Path) -> None:
    specs = checks_detect(checkout=tmp_path, commands=["make  test", " ", "make test"])
    assert [spec.name for spec in specs] == ["make test", "make test (2)"]


def test_unittest_is_run_so_that_its_results_are_written() -> None:
    command = check_command(CheckSpec("u", "python -m unittest discover -s 'a b'", "unittest"))
    assert command == "python /run/unittest_results.py /run/results/junit.xml discover -s 'a b'"


def result(code: int | None, killed: str = "") -> CommandResult:
    return CommandResult(exit_code=code, output="", truncated=False, seconds=0.1, killed=killed)


def test_an_exit_code_alone_is_not_believed() -> None:
    known, plain = CheckSpec("p", "pytest", "pytest"), CheckSpec("m", "make", "command")
    assert check_judge(known, result(0), {"a": "passed"}) == (True, "")
    assert not check_judge(known, result(0), {})[0]
    assert not check_judge(known, result(0), {"a": "skipped"})[0]
    assert "SIGKILL: something in the check" in check_judge(known, result(137), {})[1]
    assert not check_judge(known, result(0), {"a": "passed", "b": "failed"})[0]
    assert check_judge(known, result(5), {}) == (False, "no tests were found")
    assert not check_judge(known, result(1), {"a": "passed"})[0]
    assert not check_judge(known, result(None, "timeout"), {"a": "passed"})[0]
    assert check_judge(plain, result(0), {}) == (True, "")


def test_results_are_read_by_test(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.test_a.TestA" file="tests/test_a.py" name="test_x[1]"/>'
        '<testcase classname="tests.test_a" file="tests/test_a.py" name="test_y"><failure/></testcase>'
        '<testcase classname="tests.test_a" file="tests/test_a.py" name="test_z"/>'
        '<testcase classname="tests.test_a" file="tests/test_a.py" name="test_z"><error/></testcase>'
        '<testcase classname="pkg.T" name="test_s"><skipped/></testcase></testsuite></testsuites>'
    )
    assert junit_read(tmp_path / "r.xml") == {
        "tests/test_a.py::TestA::test_x[1]": "passed",
        "tests/test_a.py::test_y": "failed",
        "tests/test_a.py::test_z": "error",
        "pkg.T.test_s": "skipped",
    }


def test_what_is_no_results_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "true.xml").write_text('<testsuite><testcase name="a"/></testsuite>')
    (tmp_path / "link.xml").symlink_to(tmp_path / "true.xml")
    (tmp_path / "folder.xml").mkdir()
    (tmp_path / "broken.xml").write_text("<testsuite>")
    (tmp_path / "entities.xml").write_text(
        '<!DOCTYPE x [<!ENTITY a "a">]><testsuite><testcase name="&a;"/></testsuite>'
    )
    os.mkfifo(tmp_path / "pipe.xml")
    names = ("missing", "link", "folder", "broken", "entities", "pipe")
    assert [junit_read(tmp_path / f"{name}.xml") for name in names] == [{}] * 6
