"""``archon bench plan-faults``: plans that are drawn by lot, with kills and people's edits in the middle of each.

Each plan has 2 to 8 tasks and is carried out on two workers, one task at a time or several. What comes over it is drawn
too: SIGKILL for a worker (at a point of the code, or at any moment), the API, PostgreSQL or Redis; edits of the plan,
pauses, words, rewinds. At its end rows, events, the branch, what was paid and what is left behind are looked at. Exit
code 1 unless all plans ended and everything held.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fleet import Fleet, fleet_open, repository_make
from tests.killing import Arrival, KillPoints, kill_points_open
from tests.loopback.openai_server import OpenAIServer
from tests.loopback.plan_players import FILES, Players
from tests.plan_faults import Play, Spared, scenario_of
from tests.plan_witness import Witness, fsck
from tests.stacks import home_open

WORKERS = 2
#: A worker that died is followed soon, so that much happens in little time.
_LEASE_SECONDS = "3"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench plan-faults", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--seed", type=int, default=1, help="of the first plan; each after it has the next number")
    parser.add_argument("--plans", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=1, help="plans side by side; kills of one strike the others too")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds that a plan may take")
    options = parser.parse_args(argv)
    seeds = range(options.seed, options.seed + options.plans)
    report = measure(seeds, at_once=options.at_once, patience=options.patience)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:12} {value}")
    return 0 if report["ended"] == report["plans"] and not report["violations"] else 1


def measure(seeds: range, *, at_once: int, patience: float) -> dict[str, Any]:
    """Play the plans of these seeds; what came of them."""
    players = Players()
    with (
        home_open() as home,
        tempfile.TemporaryDirectory(prefix="archon-bench-") as folder,
        kill_points_open() as points,
        OpenAIServer(players) as server,
    ):
        _say(f"starting a server of {WORKERS} workers …")
        variables = {"ARCHON_KILL_POINTS": str(points.path), "ARCHON_LEASE_SECONDS": _LEASE_SECONDS}
        with fleet_open(home, workers=WORKERS, **variables) as fleet:
            project = fleet.project_make(repository_make(Path(folder) / "plans", FILES)).id
            began = time.monotonic()
            table = _Table(fleet, points, players, project, server.base_url, patience)
            table.play(list(seeds), at_once=at_once)
            if lost := fsck(fleet.git_dir(project)):
                table.violations.append({"seed": seeds[0], "words": f"git fsck: {lost}"})
            table.violations += [{"seed": seeds[0], "words": f"the model was asked: {text}"} for text in server.refused]
            return _report(table, seeds, seconds=time.monotonic() - began)


class _Table:
    """Where plans are played; one thread each, while this one starts again what has died."""

    def __init__(
        self, fleet: Fleet, points: KillPoints, players: Players, project_id: str, base_url: str, patience: float
    ) -> None:
        self.violations: list[dict[str, Any]] = []
        self.plays: list[Play] = []
        self.ended = 0
        self._fleet = fleet
        self._players = players
        self._new: dict[str, Any] = {
            "project_id": project_id,
            "base_url": base_url,
            "patience": patience,
            "spared": Spared(),
        }
        self._lock = threading.Lock()
        points.decide = self._decide

    def play(self, seeds: list[int], *, at_once: int) -> None:
        threads: list[threading.Thread] = []
        while seeds or threads:
            while seeds and len(threads) < at_once:
                seed = seeds.pop(0)
                threads.append(threading.Thread(target=self._one, args=(seed,), daemon=True))
                threads[-1].start()
            self._fleet.revive(workers=WORKERS)
            threads = [thread for thread in threads if thread.is_alive()]
            time.sleep(0.1)

    def _one(self, seed: int) -> None:
        scenario = scenario_of(seed)
        self._players.plans[seed] = scenario.drawn
        play = Play(fleet=self._fleet, scenario=scenario, report=_say, **self._new)
        with self._lock:
            self.plays.append(play)
        try:
            play.run()
            wrong = list(play.wrong)
            if not wrong or play.status == "completed":
                wrong += Witness(self._fleet, play.session_id, acknowledged=play.acknowledged).look()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is of this plan, and the others go on
            wrong = [f"{type(error).__name__}: {error}"]
        with self._lock:
            self.ended += play.status == "completed"
            self.violations += [{"seed": seed, "words": words} for words in wrong]
        for words in wrong:
            _say(f"plan {seed} (session {play.session_id}): {words}")

    def _decide(self, arrival: Arrival) -> None:
        with self._lock:
            play = next((play for play in self.plays if play.session_id == arrival.session), None)
        if play is not None:
            play.decide(arrival)


def _report(table: _Table, seeds: range, *, seconds: float) -> dict[str, Any]:
    kills: Counter[str] = sum((play.kills for play in table.plays), Counter())
    acts: Counter[str] = sum((play.acts for play in table.plays), Counter())
    return {
        "seed": seeds[0],
        "plans": len(seeds),
        "ended": table.ended,
        "violations": table.violations,
        "kills": dict(sorted(kills.items())),
        "acts": dict(sorted(acts.items())),
        "wall_s": round(seconds, 1),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
