"""``archon bench parallel``: one plan of six tasks, worked on one after the other, and two and three at a time.

The model is a server on this machine, in a process of its own, that takes two seconds for each reply. Each task looks
around, reads, edits and finishes; two of them change the same line. Exit code 1 unless all sessions came to a verified
end with what each task changed in the branch, and three at a time take at most 0.6 of the time of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet import Fleet, fleet_open, repository_make
from tests.launching import ROOT
from tests.stacks import home_open

#: How many at a time, in the order in which they are measured.
LANES = (1, 2, 3)
#: What three at a time may take of the time of one.
RATIO = 0.6
PATIENCE_SECONDS = 900.0
_LOOK_SECONDS = 0.2
#: The modules of the tasks, one each; the first two tasks change the line of a third file as well.
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
SHARED = NAMES[:2]
FILES = {
    **{f"{name}.py": f'"""About {name}."""\n\n\ndef value():\n    return 0\n' for name in NAMES},
    "words.txt": "first\nsecond\nthird\n",
    "test_all.py": (
        "import pathlib\nimport unittest\n\n" + "".join(f"import {name}\n" for name in NAMES) + "\n\n"
        "class AllTest(unittest.TestCase):\n"
        "    def test_values(self):\n"
        f"        for module in ({', '.join(NAMES)}):\n"
        "            self.assertGreaterEqual(module.value(), 0)\n\n"
        "    def test_words(self):\n"
        '        words = pathlib.Path("words.txt").read_text()\n'
        '        self.assertNotIn("<<<<<<<", words)\n'
    ),
}
CHECK = "python3 -m unittest -q"
MODEL = """
import time
from tests.loopback.agents import call, finishes, is_planner, runs, says, task_title, turn
from tests.loopback.wire import text_of

NAMES = {names!r}
SHARED = {shared!r}
LATENCY = {latency}
MEND = "sed -i '/^<<<<<<< /d;/^=======$/d;/^>>>>>>> /d' words.txt"


def answer(request):
    time.sleep(LATENCY)
    if is_planner(request):
        tasks = [
            {{"key": f"T{{number}}", "title": f"Count {{name}}", "instructions": "See the goal.", "depends_on": []}}
            for number, name in enumerate(NAMES, 1)
        ]
        features = [{{"title": "Counting", "tasks": tasks}}]
        return says(call("submit_plan", summary="Count.", features=features))
    name = task_title(request).split()[-1]
    told = [text_of(message) for message in request.messages if message["role"] == "user"]
    if "can't be merged" in told[-1]:
        return runs(MEND) if request.messages[-1]["role"] == "user" else finishes("Both are there.")
    edits = [call("edit_file", path=f"{{name}}.py", old_text="return 0", new_text="return 1")]
    if name in SHARED:
        edits.append(call("run_command", command=f"sed -i 's/^second.*/& {{name}}/' words.txt"))
    steps = [
        says(call("list_files")),
        says(call("read_file", path=f"{{name}}.py")),
        says(*edits),
        finishes(f"{{name}} counts."),
    ]
    return steps[min(turn(request), len(steps) - 1)]
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench parallel", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--latency", type=float, default=2.0, help="seconds that the model takes for a reply")
    options = parser.parse_args(argv)
    report, notes = _measure(latency=options.latency)
    for note in notes:
        print(note, file=sys.stderr)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:22} {value}")
    whole = report["completed"] == len(LANES) and not report["merge_conflicts_lost"]
    return 0 if whole and report["ratio_3_to_1"] <= RATIO else 1


@dataclass(frozen=True)
class Ran:
    """What came of the plan with so many tasks at a time."""

    lanes: int
    seconds: float
    is_verified: bool
    conflicts: int
    fast_forwards: int
    #: Tasks whose change is not in the branch.
    lost: tuple[str, ...]
    note: str = ""


def _measure(*, latency: float) -> tuple[dict[str, Any], list[str]]:
    with (
        home_open() as home,
        tempfile.TemporaryDirectory(prefix="archon-bench-") as folder,
        _model_open(Path(folder), "slow", latency) as slow,
        _model_open(Path(folder), "quick", 0.0) as quick,
    ):
        print("starting a server …", file=sys.stderr)
        with fleet_open(home, workers=1) as fleet:
            project = fleet.project_make(repository_make(Path(folder) / "counts", FILES)).id
            # What is made once for a project is there from now on.
            _run(fleet, project, quick, lanes=1)
            ran = [_run(fleet, project, slow, lanes=lanes) for lanes in LANES]
    return _report(ran, latency=latency), [each.note for each in ran if each.note]


def _report(ran: Sequence[Ran], *, latency: float) -> dict[str, Any]:
    wall = {str(each.lanes): round(each.seconds, 2) for each in ran}
    return {
        "wall_s": wall,
        "ratio_3_to_1": round(wall["3"] / wall["1"], 3),
        "ratio_2_to_1": round(wall["2"] / wall["1"], 3),
        "tasks": len(NAMES),
        "completed": sum(each.is_verified for each in ran),
        "merge_conflicts": sum(each.conflicts for each in ran),
        "merge_conflicts_lost": sum(len(each.lost) for each in ran),
        "fast_forwards": {str(each.lanes): each.fast_forwards for each in ran},
        "latency_s": latency,
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _run(fleet: Fleet, project_id: str, base_url: str, *, lanes: int) -> Ran:
    print(f"{len(NAMES)} tasks, {lanes} at a time …", file=sys.stderr)
    options = {
        "agent_type": "executor",
        "model": "openai:loopback",
        "base_url": base_url,
        "checks": [CHECK],
        "lanes": lanes,
        "review": "never",
    }
    begun = fleet.api.session_run(project_id=project_id, goal="Count everything.", options=options)
    session = _end(fleet, begun.id)
    events = fleet.rows(
        "SELECT type, payload FROM agents_sessionevent WHERE session_id = %s AND type = ANY(%s)",
        (session["id"], ["MergeConflicted", "TaskMerged"]),
    )
    seconds = (session["finished_at"] - session["started_at"]).total_seconds() if session["finished_at"] else 0.0
    is_verified = (session["status"], session["outcome"]) == ("completed", "verified")
    note = "" if is_verified else f"{lanes} at a time: {session['status']}, {session['outcome']}: {session['reason']}"
    return Ran(
        lanes=lanes,
        seconds=seconds,
        is_verified=is_verified,
        conflicts=sum(event["type"] == "MergeConflicted" for event in events),
        fast_forwards=sum(bool(event["payload"].get("fast_forward")) for event in events),
        lost=_lost(fleet.git_dir(project_id), session["branch"]),
        note=note,
    )


def _end(fleet: Fleet, session_id: str) -> dict[str, Any]:
    """The session's row once it has ended, or stops for a person, or patience does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        [session] = fleet.rows("SELECT * FROM agents_agentsession WHERE id = %s", (session_id,))
        if session["status"] not in ("pending", "running") or time.monotonic() > deadline:
            return session
        time.sleep(_LOOK_SECONDS)


def _lost(git_dir: Path, branch: str) -> tuple[str, ...]:
    """The tasks of whose change something is missing in the branch."""

    def content(path: str) -> str:
        shown = subprocess.run(
            ["git", "--git-dir", str(git_dir), "show", f"{branch}:{path}"], check=True, capture_output=True, text=True
        )
        return shown.stdout

    words = content("words.txt").split()
    return tuple(
        name for name in NAMES if "return 1" not in content(f"{name}.py") or (name in SHARED and name not in words)
    )


@contextmanager
def _model_open(folder: Path, name: str, latency: float) -> Iterator[str]:
    """A model server that takes so long for a reply; its base URL."""
    script = folder / f"{name}.py"
    script.write_text(MODEL.format(names=NAMES, shared=SHARED, latency=latency))
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.loopback.openai_server", "--script", str(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
