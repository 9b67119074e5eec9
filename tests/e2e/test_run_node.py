"""``archon run`` on packages of npm's: set up from the registry, mended, and judged by their own runner's results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_run import run, untouched
from tests.loopback.agents import Repair
from tests.npm_packages import CAMELCASE, MS, SEMVER, NpmCase
from tests.stacks import LiveStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CASES = {
    "node --test": (
        MS,
        "A day has 24 hours.",
        Repair(hint=r"var d = h", bad=r"h \* 12", good="h * 24"),
    ),
    "vitest": (
        CAMELCASE,
        "Words that are joined by dots should be separated, too.",
        Repair(hint="const SEPARATORS =", bad=r"\[_\\- \]", good=r"[_.\\- ]"),
    ),
    "jest": (
        SEMVER,
        "A version is not greater than itself.",
        Repair(hint=r"gt = \(a, b, loose\)", bad=r"compare\(a, b, loose\) >= 0", good="compare(a, b, loose) > 0"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bug_is_mended(stack: LiveStack, tmp_path: Path, name: str) -> None:
    case: NpmCase
    case, goal, repair = CASES[name]
    repository = case.checkout(tmp_path)
    with untouched(repository):
        done, _ = run(stack, repository, repair.agents, goal)
    said = done.document
    assert (done.code, said["status"], said["outcome"]) == (0, "completed", "verified"), said
    assert said["checks"] == [{"name": case.command, "before": "failed", "after": "passed"}]
    assert said["files_changed"] == [case.path]
    tests = said["tests"][case.command]
    assert sorted(tests["fixed"]) == sorted(tests["failing_before"]) == sorted(case.fixed)
    assert tests["failing_after"] == tests["newly_failing"] == tests["flaky"] == tests["disappeared"] == []
    [check] = stack.api.session_get(said["session_id"]).checks
    assert check.tests_before == check.tests_after and check.tests_after is not None
