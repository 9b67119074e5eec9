"""Plans that are drawn by lot, with kills and people's edits in the middle: one of those that the benchmark plays."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.launching import ROOT
from tests.plan_faults import scenario_of

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("plan_fleet")]


def test_a_seed_says_all_that_comes_over_a_plan() -> None:
    assert scenario_of(7) == scenario_of(7) != scenario_of(8)


@pytest.mark.slow
def test_what_was_drawn_holds_to_its_end() -> None:
    command = [sys.executable, "-m", "benchmarks", "plan-faults", "--seed", "101", "--plans", "1"]
    played = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(played.stdout or "{}")
    assert (report.get("ended"), report.get("violations")) == (1, []), played.stderr[-8000:]
    assert report["kills"] and report["acts"]
