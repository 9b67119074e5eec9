"""Tests that fail now and then are told from those that fail, and never hide what a change broke."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from apps.projects.checks import CheckSpec, Verification, checks_baseline, checks_verify, reruns, running
from apps.projects.environment import Environment
from tests.integration.project_sample import project_import, pytest_environment, reachable_home

PYTEST = CheckSpec("pytest", "python -m pytest", "pytest")
#: `luck` passes as /env/luck says at the time.
TESTS = """\
import pathlib
from calc import add

def test_luck():
    assert pathlib.Path("/env/luck").read_text() == "pass"

def test_add():
    assert add(2, 2) == 4
"""
RIGHT = {"calc.py": "def add(a, b):\n    return a + b\n", "tests/test_calc.py": TESTS}
OTHER = {**RIGHT, "notes.txt": "changed\n"}
WRONG = {**RIGHT, "calc.py": "def add(a, b):\n    return a - b\n"}
LUCK = "tests/test_calc.py::test_luck"


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


def verify(
    source: Path,
    environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
    *,
    luck: str,
    before: dict[str, str] = RIGHT,
    after: dict[str, str] = OTHER,
    specs: Sequence[CheckSpec] = (PYTEST,),
) -> tuple[Verification, int]:
    """``luck``: how the tests' luck is in each run, `+` or `-`, in turn. Returns the runs, too."""
    runs = iter(luck)
    made = 0
    execute = running.check_execute

    async def lucky(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        assert environment.path is not None
        (environment.path / "luck").write_text({"+": "pass", "-": "fail"}[next(runs)])
        return await execute(*arguments)

    monkeypatch.setattr(running, "check_execute", lucky)
    monkeypatch.setattr(reruns, "check_execute", lucky)

    async def both() -> Verification:
        base = project_import(source, before)
        earlier = await checks_baseline(project_id="p", commit=base, specs=specs, environment=environment)
        commit = project_import(source, after)
        return await checks_verify(
            project_id="p", base_commit=base, commit=commit, specs=specs, before=earlier,
            base_environment=environment, environment=environment,
        )  # fmt: skip

    return asyncio.run(both()), made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("luck", "outcome", "state", "flaky", "flaky_before"),
    [
        # Before, after; no doubt, so nothing is run again.
        ("++", "verified", "passed", (), ()),
        # Fails after, and whenever it is run again.
        ("+---", "failing", "failed", (), ()),
        # Fails after, passes alone and with the others; never fails before.
        ("+-++++", "unverified", "flaky", (LUCK,), ()),
        # The same, but before it fails as well when it is run again.
        ("+-++-", "verified", "flaky", (LUCK,), (LUCK,)),
        # Passes alone and not with the others: nobody can say that the whole check passes.
        ("+-+-++", "failing", "failed", (LUCK,), ()),
        # Fails before whenever it is run, passes after whenever it is run.
        ("--+++", "verified", "passed", (), ()),
        # Fails before whenever it is run, passes after by chance: not fixed.
        ("--++-", "failing", "passed", (LUCK,), ()),
        # Fails and passes before; passes after whenever it is run.
        ("-++++", "verified", "passed", (), (LUCK,)),
        # Fails and passes before and after: the change didn't mend it.
        ("-++-", "unverified", "passed", (LUCK,), (LUCK,)),
        # Fails and passes before, always fails after: broken.
        ("-+---", "failing", "failed", (), (LUCK,)),
    ],
)
def test_luck_is_told_from_work(
    source: Path,
    environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
    luck: str,
    outcome: str,
    state: str,
    flaky: tuple[str, ...],
    flaky_before: tuple[str, ...],
) -> None:
    verification, runs = verify(source, environment, monkeypatch, luck=luck)
    (check,) = verification.comparisons
    assert verification.outcome == outcome, verification.reasons
    assert (check.after, check.flaky, check.flaky_before) == (state, flaky, flaky_before)
    assert runs == len(luck)
    assert (outcome == "verified") == (not verification.reasons)
    if LUCK in flaky or LUCK in flaky_before:
        assert LUCK not in check.fixed
        assert (LUCK in check.newly_failing) == (LUCK not in flaky and state == "failed")


def test_a_flaky_test_does_not_hide_a_broken_one(
    source: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    verification, _ = verify(source, environment, monkeypatch, luck="+-++++", after=WRONG)
    (check,) = verification.comparisons
    assert verification.outcome == "failing"
    assert check.newly_failing == check.failing_after == ("tests/test_calc.py::test_add",)
    assert check.flaky == (LUCK,)


@pytest.mark.parametrize(
    ("luck", "outcome"),
    [("++", "verified"), ("+--", "failing"), ("+-++", "unverified"), ("--++", "verified"), ("--+-", "failing")],
)
def test_a_check_that_tells_nothing_is_run_again_as_a_whole(
    source: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch, luck: str, outcome: str
) -> None:
    spec = CheckSpec("make", 'test "$(cat /env/luck)" = pass', "command")
    verification, runs = verify(source, environment, monkeypatch, luck=luck, specs=(spec,))
    assert verification.outcome == outcome, verification.reasons
    assert runs == len(luck)


def test_nothing_is_run_again_when_so_configured(
    source: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.ARCHON_CHECK_RERUNS = 0
    verification, runs = verify(source, environment, monkeypatch, luck="+-")
    assert (verification.outcome, runs) == ("failing", 2)
    assert verification.comparisons[0].newly_failing == (LUCK,)
