"""``archon run`` on projects in many languages: set up, a bug mended (or not), and the project's own tests as judge."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.builders import repository_build
from tests.e2e.test_run import run, untouched
from tests.ecosystems import SAMPLES, Sample
from tests.loopback.agents import Repair
from tests.stacks import LiveStack

pytestmark = [pytest.mark.slow, pytest.mark.sampled(3), pytest.mark.timeout(900)]

GOAL = "add() should add."


def repair(sample: Sample, good: str) -> Repair:
    return Repair(hint=re.escape(sample.bad), bad=re.escape(sample.bad), good=good)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_bug_is_mended(stack: LiveStack, tmp_path: Path, sample: Sample) -> None:
    repository = repository_build(tmp_path / sample.name, sample.files)
    with untouched(repository):
        done, _ = run(stack, repository, repair(sample, sample.good).agents, GOAL)
    said = done.document
    assert (done.code, said["status"], said["outcome"]) == (0, "completed", "verified"), said
    # What builds wrote is in no commit.
    assert said["files_changed"] == [sample.path]
    [check] = stack.api.session_get(said["session_id"]).checks
    assert (check.before, check.after) == ("failed", "passed")
    assert sample.failing in check.fixed


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_wrong_change_is_failing_by_the_name_of_the_test(stack: LiveStack, tmp_path: Path, sample: Sample) -> None:
    repository = repository_build(tmp_path / sample.name, sample.files)
    wrong = sample.good.replace("+", "*")
    done, _ = run(stack, repository, repair(sample, wrong).agents, GOAL)
    said = done.document
    assert (done.code, said["status"], said["outcome"]) == (1, "completed", "failing"), said
    assert sample.failing in said["reason"]["message"]
    [check] = stack.api.session_get(said["session_id"]).checks
    assert check.fixed == [] and sample.failing in check.failing_after
