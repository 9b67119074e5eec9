"""``archon bench faults``: worker processes killed at every point of a session, and what that did to its effects.

Each session is a job whose effects somebody outside of the product can count: lines that commands and edits append,
commits in git, requests that the model server got. Each kill is a SIGKILL of the process that brings a session to a
point (see ``apps.core.kill_points``), at a visit that the seed chooses; whatever else that worker ran dies with it.
Exit code 1 unless all sessions completed with each effect and each event once, and so many were killed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.counted import CountedModel, Counts, percentile
from tests.fleet import fleet_open
from tests.killing import kill_points_open
from tests.loopback.openai_server import OpenAIServer
from tests.slaying import Aim, Slayer, aims_make
from tests.stacks import home_open

#: How often a kill that found no visit left is tried on another session.
_ROUNDS = 3


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench faults", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--kills", type=int, default=100, help="sessions, each of which is killed once by name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3, help="worker processes that run at a time")
    parser.add_argument("--at-once", type=int, default=8, help="sessions that run side by side")
    options = parser.parse_args(argv)
    report, notes = _measure(kills=options.kills, seed=options.seed, workers=options.workers, at_once=options.at_once)
    for note in notes:
        print(note, file=sys.stderr)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:20} {value}")
    whole = not any(report[key] for key in ("effects_lost", "effects_doubled", "events_missing", "events_doubled"))
    killed = sum(report["kills"].values())
    return 0 if whole and report["completed"] == report["sessions"] and killed >= options.kills else 1


def _measure(*, kills: int, seed: int, workers: int, at_once: int) -> tuple[dict[str, Any], list[str]]:
    model = CountedModel()
    with (
        home_open() as home,
        tempfile.TemporaryDirectory(prefix="archon-bench-") as folder,
        kill_points_open() as points,
        OpenAIServer(model) as server,
    ):
        print("starting a server of several workers …", file=sys.stderr)
        with fleet_open(home, workers=workers, ARCHON_KILL_POINTS=str(points.path)) as fleet:
            slayer = Slayer(
                fleet=fleet,
                points=points,
                model=model,
                base_url=server.base_url,
                folder=Path(folder),
                workers=workers,
                report=lambda text: print(text, file=sys.stderr),
            )
            visits = slayer.visits_learn()
            print(f"points of one session: {dict(visits)}", file=sys.stderr)
            undisturbed = set(slayer.statuses)
            counts = _run(slayer, aims_make(visits, kills=kills, chance=random.Random(seed)), at_once=at_once)
            ends = [status for number, status in slayer.statuses.items() if number not in undisturbed]
            return _report(slayer, counts, ends), counts.notes + ([] if counts.are_whole else fleet.complaints())


def _run(slayer: Slayer, aims: list[Aim], *, at_once: int) -> Counts:
    counts = Counts()
    for _ in range(_ROUNDS):
        counts += slayer.run(aims, at_once=at_once)
        # Those that met no such visit: another session gets an earlier one.
        aims = [Aim(aim.point, visit=1, delay=aim.delay) for aim in slayer.aims_drop()]
        if not aims:
            break
    return counts


def _report(slayer: Slayer, counts: Counts, ends: list[str]) -> dict[str, Any]:
    recoveries = slayer.recoveries()
    return {
        "sessions": len(ends),
        "completed": ends.count("completed"),
        "effects_lost": counts.effects_lost,
        "effects_doubled": counts.effects_doubled,
        "events_missing": counts.events_missing,
        "events_doubled": counts.events_doubled,
        "recovery_seconds": {
            "p50": _rounded(percentile(recoveries, 0.5)),
            "p95": _rounded(percentile(recoveries, 0.95)),
        },
        "kills": dict(sorted(Counter(kill.point for kill in slayer.kills).items())),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
