"""``archon run``: a session mends a real package, with its dependencies installed and its own tests as the judge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders import git
from tests.loopback.agents import Agents, Repair
from tests.loopback.openai_server import OpenAIServer
from tests.packages import ITSDANGEROUS, MORE_ITERTOOLS, SAMPLE, Package, Sample
from tests.stacks import LiveStack, Ran

pytestmark = pytest.mark.timeout(600)

DATE_LOST = Repair(
    hint="date_signed=",
    bad=r"raise BadTimeSignature\(str\(sig_error\), payload=value\)",
    good="raise BadTimeSignature(str(sig_error), payload=value, date_signed=ts_dt)",
)
PADDING_SHORT = Repair(
    hint=r"padding = \[False\]", bad=r"padding = \[False\] \* \(distance - 1\)", good="padding = [False] * distance"
)


LEFT_OVER = Repair(
    hint="def allocate",
    bad=r"key=lambda index: remainders\[index\]\)\[:left_over\]",
    good="key=lambda index: remainders[index], reverse=True)[:left_over]",
)


@dataclass(frozen=True)
class Case:
    package: Package | Sample
    goal: str
    repair: Repair
    check: str
    #: The line of the diff that mends it, and the least number of tests that say so.
    line: str
    tests: int


SIGNED_WHEN = (
    "When a signature is wrong, the error should say when the value was signed (date_signed); it no longer does."
)
CASES = {
    "the demo's sample, by another model": Case(
        SAMPLE,
        "The cents that are left over should go to those who lost most by rounding.",
        LEFT_OVER,
        "unittest",
        "+    for index in sorted(range(len(parts)), key=lambda index: remainders[index], reverse=True)[:left_over]:",
        25,
    ),
    "itsdangerous, by pytest and freezegun": Case(
        ITSDANGEROUS,
        SIGNED_WHEN,
        DATE_LOST,
        "pytest",
        "+            raise BadTimeSignature(str(sig_error), payload=value, date_signed=ts_dt)",
        200,
    ),
    "more-itertools, by unittest": Case(
        MORE_ITERTOOLS,
        "adjacent() gives wrong results when the distance is more than one.",
        PADDING_SHORT,
        "unittest",
        "+    padding = [False] * distance",
        600,
    ),
}
#: The first needs nothing that has to be fetched.
QUICK, *SLOW = CASES


def run(stack: LiveStack, repository: Path, agents: Agents, goal: str, *options: str) -> tuple[Ran, OpenAIServer]:
    """``archon run`` against a model that refuses every request that the real API would refuse."""
    with OpenAIServer(agents) as server:
        address = ("--model", "openai:loopback", "--base-url", server.base_url)
        done = stack.archon("run", goal, "--repo", str(repository), *address, "--json", "--yes", *options, seconds=600)
        assert server.refused == [], done.output
        return done, server


@contextmanager
def untouched(repository: Path) -> Iterator[None]:
    """Nothing in the person's checkout changes meanwhile: not a file, not a time, not a ref."""
    before = snapshot(repository)
    yield
    assert snapshot(repository) == before


def snapshot(repository: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder, ``.git`` included, by size and time."""
    found = {path: path.lstat() for path in (repository, *repository.rglob("*"))}
    return {str(path): (entry.st_size, entry.st_mtime_ns) for path, entry in found.items()}


@pytest.mark.parametrize("name", [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_bug_is_mended(stack: LiveStack, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    repository = case.package.checkout(tmp_path)
    agents = case.repair.agents
    with untouched(repository):
        done, server = run(stack, repository, agents, case.goal)
    said = done.document
    assert (done.code, said["status"], said["outcome"]) == (0, "completed", "verified"), said
    assert said["checks"] == [{"name": case.check, "before": "failed", "after": "passed"}]
    assert said["files_changed"] == [case.package.path]
    assert [line for line in said["diff"].splitlines() if line.startswith("+") and not line.startswith("+++")] == [
        case.line
    ]
    # What the server counted is what the session was charged for.
    session = stack.api.session_get(said["session_id"])
    assert len(server.requests) == agents.replies == session.usage.steps
    assert said["tokens"] == session.usage.tokens == agents.input_tokens + agents.output_tokens
    assert not session.usage.estimated
    [check] = session.checks
    assert check.tests_before == check.tests_after and (check.tests_after or 0) >= case.tests
    # The branch comes into the repository, and what was there stays as it was.
    head = git(repository, "rev-parse", "HEAD")
    fetched = stack.archon("fetch", session.id, "--repo", str(repository), "--json").document
    assert git(repository, "rev-parse", said["branch"]) == fetched["commit"] == session.head_commit
    assert case.line[1:] in git(repository, "show", f"{said['branch']}:{case.package.path}").splitlines()
    assert git(repository, "merge-base", "HEAD", said["branch"]) == head == git(repository, "rev-parse", "HEAD")
    assert git(repository, "status", "--porcelain") == ""


@pytest.mark.slow
def test_a_wrong_change_is_failing(stack: LiveStack, tmp_path: Path) -> None:
    repository = ITSDANGEROUS.checkout(tmp_path)
    wrong = Repair(DATE_LOST.hint, DATE_LOST.bad, "raise BadTimeSignature(str(sig_error), payload=ts_bytes)")
    done, _ = run(stack, repository, wrong.agents, SIGNED_WHEN)
    said = done.document
    assert (done.code, said["status"], said["outcome"]) == (1, "completed", "failing"), said
    assert [(check["before"], check["after"]) for check in said["checks"]] == [("failed", "failed")]
    assert "payload=ts_bytes" in said["diff"]
    assert "does not pass" in said["reason"]["message"]


@pytest.mark.slow
def test_an_environment_is_made_once(stack: LiveStack, tmp_path: Path) -> None:
    repository = ITSDANGEROUS.checkout(tmp_path)
    sessions = [
        run(stack, repository, DATE_LOST.agents, "Say when it was signed.")[0].document["session_id"] for _ in range(2)
    ]
    prepared = [
        next(event.payload for event in stack.events(session_id) if event.type == "EnvironmentPrepared")
        for session_id in sessions
    ]
    assert [event["cached"] for event in prepared] == [False, True]
