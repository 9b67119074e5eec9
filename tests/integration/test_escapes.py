"""``archon bench escapes`` tries what it says, and says so when something got out or proves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import escapes
from tests.attacks import races, survivors
from tests.attacks.attempt import Outcome, Stage, tried

#: Attempts that also look at the clock: what is left of them, or how long a neighbour waits.
TIMED = frozenset({"fork bomb", *(name for name in races.ATTEMPTS if name.startswith("FIFO")), *survivors.STOPS})
ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str, seconds: float = 900) -> tuple[int, dict[str, Any]]:
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks", "escapes", "--json", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=seconds,
    )
    document: dict[str, Any] = json.loads(ran.stdout)
    return ran.returncode, document


@pytest.mark.slow
def test_a_few_attempts_are_blocked_and_have_their_controls() -> None:
    code, document = bench("--attempt", "symlink", "--attempt", "io_uring", "--attempt", "git: textconv")
    assert (code, document["escaped"], document["void"]) == (0, [], [])
    workers = {"root", "user"} if os.geteuid() == 0 else {"user"}
    assert {row["worker"] for row in document["attempts"]} == workers
    assert len(document["attempts"]) == document["tried"] == len(workers) * 5
    for row in document["attempts"]:
        assert set(row) == {"name", "worker", "blocked", "control", "evidence"} and row["evidence"]


@pytest.mark.parametrize(
    "blocked,control,code", [(True, True, 0), (False, True, 1), (True, False, 1)], ids=["blocked", "got out", "void"]
)
def test_what_got_out_or_proves_nothing_fails_the_run(
    capsys: pytest.CaptureFixture[str], blocked: bool, control: bool, code: int
) -> None:
    row = {"name": "a", "worker": "user", "blocked": blocked, "control": control, "evidence": "seen"}
    assert escapes._told([row], as_json=True) == code
    report = json.loads(capsys.readouterr().out)
    assert report["escaped"] == ([] if blocked else ["a (user)"]) and report["void"] == (
        [] if control else ["a (user)"]
    )
    assert escapes._told([], as_json=False) == 1


@pytest.mark.asyncio
async def test_an_attempt_that_breaks_down_is_void() -> None:
    async def broken(stage: Stage) -> Outcome:
        raise OSError("the payload could not be started")

    outcome = await tried(broken)
    assert (outcome.blocked, outcome.control) == (False, False) and "could not be started" in outcome.evidence


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_attempt_is_blocked_and_none_is_void() -> None:
    _, document = bench(seconds=1100)
    failed = _failed(document)
    # A second is long on a machine that does something else beside this: what only took too long is tried once more.
    timed = [row for row in failed if row["name"] in TIMED]
    if timed:
        _, again = bench(*(word for row in timed for word in ("--attempt", row["name"])))
        failed = [row for row in failed if row["name"] not in TIMED] + _failed(again)
    assert not failed, json.dumps(failed, indent=1)
    assert document["tried"] >= 50


def _failed(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in document["attempts"] if not (row["blocked"] and row["control"])]
