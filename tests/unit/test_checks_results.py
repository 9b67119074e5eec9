"""What runners of other languages say is read test by test, and nothing that a sandbox leaves can upset the readers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.projects.ecosystems.cargo_results import libtest_read
from apps.projects.ecosystems.go_results import go_events_read
from apps.projects.ecosystems.junit import junit_parse
from apps.projects.ecosystems.kept_output import output_keep, output_kept
from apps.projects.ecosystems.reports import reports_read, reports_remove
from apps.projects.ecosystems.results import results_merge
from apps.projects.ecosystems.rspec_results import rspec_read
from apps.projects.ecosystems.tap import tap_read
from apps.projects.ecosystems.types import Results, TestResult

CARGO = """\
   Compiling adder-x v0.1.0 (/workspace)
    Finished `test` profile [unoptimized + debuginfo] target(s) in 6.41s
     Running unittests src/lib.rs (target/debug/deps/adder_x-cd768151cb021c17)

running 5 tests
test tests::later ... ignored
test tests::later2 ... ignored, because
no newlinetest tests::noisy ... ok
test tests::adds ... FAILED
test tests::panics - should panic ... ok

failures:

---- tests::adds stdout ----
test tests::fake ... ok

thread 'tests::adds' (5066) panicked at src/lib.rs:15:62:
assertion `left == right` failed

failures:
    tests::adds

test result: FAILED. 2 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.14s

error: test failed, to rerun pass `--lib`
     Running unittests src/main.rs (target/debug/deps/adder_x-4512efbdd46957db)

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/cli.rs (target/debug/deps/cli-5c7621f720534baa)

running 1 test
hey
test runs ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests adder_x

running 3 tests
test src/lib.rs - add (line 12) ... FAILED
test src/lib.rs - add (line 5) ... ok
test src/lib.rs - add (line 8) - compile ... ok

failures:
    src/lib.rs - add (line 12)

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.26s

error: doctest failed, to rerun pass `--doc`
error: 2 targets failed:
    `--lib`
    `--doc`
"""


def test_cargo_tells_its_tests_by_binary_module_and_item() -> None:
    expected = {
        "adder_x src/lib.rs::tests::later": "skipped",
        "adder_x src/lib.rs::tests::later2": "skipped",
        "adder_x src/lib.rs::tests::noisy": "passed",
        "adder_x src/lib.rs::tests::adds": "failed",
        "adder_x src/lib.rs::tests::panics": "passed",
        "tests/cli.rs::runs": "passed",
        "adder_x doc::src/lib.rs - add": "passed",
        "adder_x doc::src/lib.rs - add (2)": "passed",
        "adder_x doc::src/lib.rs - add (3)": "failed",
    }
    assert libtest_read(CARGO) == expected
    coloured = CARGO.replace("ok\n", "\x1b[32mok\x1b[0m\n").replace("FAILED\n", "\x1b[31mFAILED\x1b[m\n")
    assert libtest_read(coloured) == expected


def cargo_target(body: str, *, path: str = "tests/cli.rs") -> str:
    return f"     Running {path} (target/debug/deps/cli-5c7621f720534baa)\n\n{body}"


SUM = "test result: {0}. {1} passed; {2} failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"


@pytest.mark.parametrize(
    ("text", "tests"),
    [
        # A build that failed.
        ("error[E0308]: mismatched types\nerror: could not compile `x` (lib test) due to 1 previous error\n", {}),
        # One test alone stands between the dots and its result.
        (
            cargo_target("running 1 test\ntest a ... printed ok\n" + SUM.format("ok", 1, 0)),
            {"tests/cli.rs::a": "passed"},
        ),
        # Names that don't add up to the sum: forged ones, or `--quiet`.
        (
            cargo_target("running 1 test\ntest b ... ok\ntest a ... ok\n" + SUM.format("ok", 1, 0)),
            {"tests/cli.rs": "passed"},
        ),
        (cargo_target("running 2 tests\n.F\n" + SUM.format("FAILED", 1, 1)), {"tests/cli.rs": "failed"}),
        # A crash that cargo noticed, and an exit of the process in the middle of it that it took for success.
        (
            cargo_target("running 2 tests\ntest a ... ok\nerror: test failed, to rerun pass `--test cli`\n"),
            {"tests/cli.rs::a": "passed"},
        ),
        (
            cargo_target("running 2 tests\ntest a ... ok\n"),
            {"tests/cli.rs: ended before it had run all of its tests": "error"},
        ),
        # A harness of its own.
        (
            cargo_target("whatever\n") + cargo_target("error: test failed, to rerun pass `--own`\n", path="own.rs"),
            {"tests/cli.rs": "passed", "own.rs": "failed"},
        ),
        # Two crates of a workspace with the same file.
        (
            2 * cargo_target("running 1 test\ntest a ... ok\n" + SUM.format("ok", 1, 0)),
            {"tests/cli.rs::a": "passed", "tests/cli.rs (2)::a": "passed"},
        ),
    ],
)  # fmt: skip
def test_cargo_is_read_strictly(text: str, tests: dict[str, str]) -> None:
    assert libtest_read(text) == tests


def go_event(action: str, test: str | None = None, **more: object) -> str:
    return json.dumps({"Action": action, "Package": "example.com/a", **({"Test": test} if test else {}), **more}) + "\n"


def test_go_tells_its_tests_by_package_and_subtest() -> None:
    text = (
        "# example.com/a/sub [example.com/a/sub.test]\nsub/s.go:2:13: cannot use\n"
        + go_event("run", "TestAdd") + go_event("run", "TestAdd/one_two") + go_event("output", "TestAdd", Output="x\n")
        # A line that a test printed: it never began.
        + go_event("pass", "TestForged")
        + go_event("fail", "TestAdd/one_two") + go_event("fail", "TestAdd")
        + go_event("run", "TestSkip") + go_event("skip", "TestSkip")
        + go_event("run", "TestZero") + go_event("pass", "TestZero")
        + go_event("run", "TestExit") + go_event("fail")
        + "FAIL\texample.com/a/sub [build failed]\n{not json\n[]\n{\"Action\": 1}\n"
    )  # fmt: skip
    assert go_events_read(text) == {
        "example.com/a::TestAdd/one_two": "failed",
        "example.com/a::TestAdd": "failed",
        "example.com/a::TestSkip": "skipped",
        "example.com/a::TestZero": "passed",
        "example.com/a::TestExit": "error",
    }


def rspec_example(place: str, name: str, status: str) -> dict[str, str]:
    file = "./spec/adder_spec.rb"
    return {"id": f"{file}[{place}]", "file_path": file, "full_description": name, "status": status}


def test_rspec_tells_its_examples_in_whatever_order_they_ran() -> None:
    examples = [
        rspec_example("1:10", "Adder same", "failed"),
        rspec_example("1:2", "Adder same", "passed"),
        rspec_example("1:1", "Adder later", "pending"),
    ]
    document = {"examples": examples, "summary": {"errors_outside_of_examples_count": 0}}
    expected = {
        "spec/adder_spec.rb::Adder later": "skipped",
        "spec/adder_spec.rb::Adder same": "passed",
        "spec/adder_spec.rb::Adder same (2)": "failed",
    }
    assert rspec_read(json.dumps(document).encode()) == expected


@pytest.mark.parametrize(
    ("text", "tests"),
    [
        ("1..2\nok 1 - adds\nnot ok 2 - is fast # TODO later\n", {"adds": "passed", "is fast": "skipped"}),
        ("ok\nnot ok 2\n# a note\n1..2\n", {"test 1": "passed", "test 2": "failed"}),
        ("1..1\nok 1 - opens # SKIP no display\n", {"opens": "skipped"}),
        ("1..1\nok 1 - a\n1..1\nok 1 - a\n", {"a": "passed", "a (2)": "passed"}),
        # Lines like these without a plan, or beside one that they don't add up to, are none of ours.
        ("ok, all tests passed\n", {}),
        ("ok 1 - a\n", {}),
        ("1..3\nok 1 - a\n", {}),
        ("1..3\nok 1 - a\nBail out! No database.\n", {"Bail out! No database.": "error"}),
    ],
)
def test_tap_counts_where_the_plan_is_kept(text: str, tests: dict[str, str]) -> None:
    assert tap_read(text) == tests


def test_what_ctest_and_phpunit_write_into_junit_is_understood() -> None:
    ctest = b"""<testsuite><testcase name="adds" classname="adds" status="fail"><failure message=""/></testcase>
        <testcase name="fine" classname="fine" status="run"/><testcase name="off" classname="off" status="disabled"/>
        <testcase name="gone" classname="gone" status="notrun"><skipped message="Unable to find executable"/></testcase>
        </testsuite>"""
    phpunit = b"""<testsuites><testsuite><testsuite name="ATest"><testcase name="testSame with data set &quot;one&quot;"
        class="ATest" classname="ATest" file="/workspace/tests/ATest.php" line="6"/>
        <testcase name="testRisky" classname="ATest" file="/workspace/tests/ATest.php">
        <error type="PHPUnit\\Framework\\RiskyTestError"/></testcase>
        <testcase name="testError" classname="ATest" file="/workspace/tests/ATest.php"><error type="E"/></testcase>
        </testsuite></testsuite></testsuites>"""
    surefire = (
        b"""<testsuite><testcase name="adds" classname="x.AdderTest" time="0"><failure/></testcase></testsuite>"""
    )
    assert results_merge([junit_parse(part) for part in (ctest, phpunit, b"nothing", surefire)]) == {
        "adds": "failed",
        "fine": "passed",
        "off": "skipped",
        "gone": "skipped",
        'tests/ATest.php::ATest::testSame with data set "one"': "passed",
        "tests/ATest.php::ATest::testRisky": "passed",
        "tests/ATest.php::ATest::testError": "error",
        "x.AdderTest.adds": "failed",
    }


#: Lines near those that the readers look for, so that what hypothesis makes of them comes close.
_LINES = st.sampled_from([*CARGO.splitlines(), "1..2", "ok 1", "not ok 2 - a # TODO", "ok 9999999999999", "Bail out!"])
_TEXTS = st.lists(_LINES | st.text(max_size=40), max_size=30).map("\n".join)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["passed", "run", "pass"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["Action", "Package", "Test", "examples", "summary", "id", "file_path", "full_description",
                         "status", "errors_outside_of_examples_count"]),
        inner, max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


def holds(results: dict[str, TestResult]) -> None:
    for name, result in results.items():
        assert name and len(name) <= 500 and "\0" not in name
        name.encode()
        assert result in ("passed", "failed", "error", "skipped")


@pytest.mark.parametrize("reader", [libtest_read, go_events_read, tap_read])
def test_any_text_at_all_has_results_or_none(reader: Callable[[str], dict[str, TestResult]]) -> None:
    @given(_TEXTS)
    def check(text: str) -> None:
        holds(reader(text))

    check()


@given(st.lists(_JSON, max_size=8))
def test_any_json_at_all_has_results_or_none(values: list[object]) -> None:
    holds(go_events_read("\n".join(json.dumps(value) for value in values)))
    for value in values:
        holds(rspec_read(json.dumps(value).encode()))


@given(st.binary(max_size=300))
def test_any_bytes_at_all_have_results_or_none(content: bytes) -> None:
    holds(rspec_read(content))
    holds(junit_parse(content))


def test_json_that_nests_without_end_has_none() -> None:
    deep = "[" * 100_000
    assert rspec_read(deep.encode()) == {}
    assert go_events_read('{"Action":' + deep) == {}


@pytest.mark.parametrize(
    ("command", "code", "kept"),
    [
        ("echo out; echo err >&2; exit 3", 3, "out\nerr\n"),
        ("false", 1, ""),
        # What a test leaves running holds the output open; nobody waits for it.
        ("echo started; sleep 1000 & exit 0", 0, "started\n"),
        ("echo {braces} 'a \"quoted\" word'", 0, '{braces} a "quoted" word\n'),
    ],
)
def test_output_is_kept_whole_and_the_exit_code_is_the_commands(
    command: str, code: int, kept: str, tmp_path: Path
) -> None:
    line = output_keep(command, through=f"tee {tmp_path / 'output.txt'}")
    done = subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert done.wait(timeout=60) == code
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(done.pid, signal.SIGKILL)
    assert output_kept(Results(tmp_path, tmp_path, "", "")) == kept
    assert done.stdout is not None and done.stdout.read() == kept


def test_reports_are_read_in_their_folders_through_no_link(tmp_path: Path) -> None:
    case = '<testsuite><testcase classname="a.B" name="{}"/></testsuite>'
    for name in ("target/surefire-reports/TEST-a.xml", "core/target/surefire-reports/TEST-b.xml", "TEST-c.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(case.format(name[-5]))
    reports = tmp_path / "target/surefire-reports"
    (reports / "TEST-link.xml").symlink_to(tmp_path / "TEST-c.xml")
    (reports / "other.xml").write_text(case.format("d"))
    os.mkfifo(reports / "TEST-pipe.xml")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/target").symlink_to(tmp_path / "target")
    results = Results(tmp_path, tmp_path, "", "")
    assert reports_read(results, folders=["target/surefire-reports"], prefix="TEST-") == {
        "a.B.a": "passed",
        "a.B.b": "passed",
    }
    subprocess.run(["bash", "-c", reports_remove("target/surefire-reports")], cwd=tmp_path, check=True)
    assert reports_read(results, folders=["target/surefire-reports"]) == {}
