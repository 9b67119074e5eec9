"""Node's own runner tells the server each test, however it is called, and its exit code alone is not believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.projects.checks import CheckReport, CheckSpec, checks_baseline, checks_detect, checks_run
from apps.projects.environment import NO_ENVIRONMENT
from tests.integration.project_sample import project_import, reachable_home

# It needs node, which a machine that runs Archon's own tests need not have.
pytestmark = pytest.mark.slow

TESTS = """\
const assert = require('node:assert');
const { describe, it, test } = require('node:test');
test('passes', () => {});
describe('suite', () => {
  it('fails', () => assert.equal(1, 2));
  it.skip('waits', () => {});
});
"""
RESULTS = {
    "a.test.js::passes": "passed",
    "a.test.js::suite > fails": "failed",
    "a.test.js::suite > waits": "skipped",
}


@pytest.fixture
def source(tmp_path: Path, settings: Settings) -> Iterator[Path]:
    with reachable_home() as home:
        settings.ARCHON_HOME = home
        settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
        yield tmp_path / "source"


def check(source: Path, files: dict[str, str], *commands: str) -> CheckReport:
    commit = project_import(source, files)
    (spec,) = checks_detect(checkout=source, commands=commands)
    (report,) = asyncio.run(checks_run(project_id="p", commit=commit, specs=[spec], environment=NO_ENVIRONMENT))
    return report


@pytest.mark.parametrize(
    "script",
    [
        "node --test",
        "node --no-warnings --test --test-reporter=tap",
        "node --test --test-reporter tap --test-reporter-destination stdout a.test.js",
        "NODE_OPTIONS=--no-warnings node --test && true",
        "npm run inner",
    ],
)
def test_a_script_is_read_test_by_test_however_it_calls_the_runner(source: Path, script: str) -> None:
    manifest = json.dumps({"scripts": {"test": script, "inner": "echo first && node --test"}})
    report = check(source, {"package.json": manifest, "a.test.js": TESTS})
    assert (report.passed, report.exit_code, dict(report.tests)) == (False, 1, RESULTS), report.output
    assert "passes" in report.output


def test_a_given_command_tells_its_tests_as_well(source: Path) -> None:
    report = check(source, {"a.test.js": TESTS}, "bash -c 'node --test; exit 1'")
    assert dict(report.tests) == RESULTS, report.output


def test_what_a_test_starts_is_left_alone(source: Path) -> None:
    inner = "require('node:test')('inner', () => {});\n"
    outer = (
        "const { execFileSync } = require('node:child_process');\nconst assert = require('node:assert');\n"
        "require('node:test')('outer', () => {\n  const env = { ...process.env };\n  delete env.NODE_TEST_CONTEXT;\n"
        "  const said = execFileSync('node', ['--test', 'inner/x.js'], { encoding: 'utf8', env });\n"
        "  assert.match(said, /inner/);\n  assert.deepStrictEqual(process.execArgv, []);\n});\n"
    )
    report = check(source, {"inner/x.js": inner, "outer.test.js": outer}, "node --test outer.test.js")
    assert (report.passed, list(report.tests)) == (True, ["outer.test.js::outer"]), report.output


@pytest.mark.parametrize(
    "attack",
    [
        "process.kill(process.ppid, 'SIGKILL');",
        "process.kill(process.ppid, 'SIGTERM');",
        "require('child_process').execSync('kill -9 -1 || true');",
        "process.exit(0);",
        "require('fs').writeFileSync('/run/results/node-1.jsonl', 'no results');",
        "require('fs').rmSync('/run/results', { recursive: true, force: true });",
    ],
)
def test_tests_that_attack_their_runner_do_not_pass(source: Path, attack: str) -> None:
    report = check(source, {"a.test.js": f"{attack}\n{TESTS}"}, "node --test")
    passed = [name for name, result in report.tests.items() if result == "passed"]
    # One that ends its own process counts as the test that its file is, and those in it are missed.
    assert not report.passed or (attack == "process.exit(0);" and passed == ["a.test.js"]), report.output


def test_endless_output_is_cut_and_ends_the_check(source: Path, settings: Settings) -> None:
    settings.ARCHON_CHECK_SECONDS = 60
    endless = "require('node:test')('x', () => { for (;;) process.stdout.write('x'.repeat(65536)); });\n"
    report = check(source, {"a.test.js": endless}, "node a.test.js")
    assert not report.passed and report.killed and len(report.output) < 30_000


def test_only_the_tests_in_question_are_run_again(source: Path) -> None:
    files = {"a.test.js": TESTS + "require('fs').writeSync(1, `${process.argv.length} run\\n`);\n"}
    commit = project_import(source, files)
    told: list[str] = []
    (report,) = asyncio.run(
        checks_baseline(
            project_id="p",
            commit=commit,
            specs=[CheckSpec("node", "node --test", "node-test")],
            environment=NO_ENVIRONMENT,
            on_progress=told.append,
        )
    )
    assert (report.flaky, report.reruns, dict(report.tests)) == ((), 1, RESULTS)
    assert "test name does not match pattern" in "".join(told)


def test_a_missing_service_is_named(source: Path) -> None:
    files = {
        "a.test.js": "const net = require('net');\n"
        "require('node:test')('x', (t, done) => net.connect(5432, '127.0.0.1').on('error', done));\n"
    }
    report = check(source, files)
    assert not report.passed and "PostgreSQL" in report.reason, report.output
