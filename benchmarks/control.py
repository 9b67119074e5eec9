"""``archon bench control``: how fast a session obeys, also in the middle of a command and of a model call that hangs.

Sessions run on a stack of their own with a loopback model. What counts is seen from outside of the product: a model's
call is over when its server sees the connection close, a command when the host has no process of it any more. Exit code
1 when a process survives or a session is not where it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.resources import Project, Session
from integrations.embedded.layout import Layout
from integrations.embedded.presence import state_read
from tests.loopback.agents import runs
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.sandboxing import marker, processes_alive
from tests.stacks import LiveStack, home_open, stack_open

#: Whatever takes longer hangs.
PATIENCE_SECONDS = 60.0
#: After so long without having obeyed, a session goes down as one that does not.
OBEY_SECONDS = 10.0
#: How long after a pause or a cancel a process may still be there before it counts as a survivor.
SURVIVAL_SECONDS = 2.0
_LOOK_SECONDS = 0.005
#: What a session is to be in the middle of.
SLEEP = "sleep {mark}"
DAEMON = "trap '' TERM INT HUP; (setsid sh -c '(sleep {mark} &); sleep {mark}' &); sleep {mark}"
_PROCESSES = {SLEEP: 1, DAEMON: 3}


class Model:
    """Does what the goal says, each time that it is asked: hangs, or runs a command. Knows who asked what, when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, list[str]] = defaultdict(list)

    def __call__(self, request: Request) -> Reply:
        asked = re.search(r"case (\S+): (.*)", request.user)
        assert asked is not None, request.user
        name, what = asked.groups()
        with self._lock:
            self._asked[name].append(json.dumps(request.messages))
        return Reply(failure="hang") if what == "hang" else runs(what)

    def asked(self, name: str) -> int:
        with self._lock:
            return len(self._asked[name])

    def has_heard(self, name: str, text: str) -> bool:
        with self._lock:
            return any(text in messages for messages in self._asked[name])


@dataclass
class Bench:
    stack: LiveStack
    server: OpenAIServer
    model: Model
    project: Project
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    survivors: int = 0
    unexpected: list[str] = field(default_factory=list)
    _count: int = 0

    def start(self, what: str) -> tuple[str, Session]:
        self._count += 1
        name = f"n{self._count}"
        session = self.stack.session_start(
            self.project, base_url=self.server.base_url, goal=f"case {name}: {what}", checks=["true"]
        )
        return name, session

    def told(self, session: Session, command: str, where: str, over: Callable[[], object], status: str) -> None:
        """Have the session obey, and write down how long it took until that is seen."""
        answers: list[Session] = []
        asking = threading.Thread(target=lambda: answers.append(self.stack.api.session_command(session.id, command)))
        began = time.monotonic()
        asking.start()
        if not reached(over, seconds=OBEY_SECONDS):
            self.unexpected.append(f"{command} in the middle of {where} did not come about")
        asking.join()
        # Until both is so: it has happened, and whoever asked for it knows.
        self.seconds[command][where].append(time.monotonic() - began)
        if [now.status for now in answers] != [status]:
            self.unexpected.append(f"{command} in the middle of {where}: {[now.status for now in answers]}")

    # --- what is measured ---------------------------------------------------------------------------------------------
    def model_call(self) -> None:
        """A call that hangs: paused, resumed, cancelled."""
        name, session = self.start("hang")
        until(lambda: self.model.asked(name), "the first request")
        closed = self.server.hangups
        self.told(session, "pause", "model", lambda: self.server.hangups > closed, "paused")
        asked = self.model.asked(name)
        self.told(session, "resume", "model", lambda: self.model.asked(name) > asked, "running")
        closed = self.server.hangups
        self.told(session, "cancel", "model", lambda: self.server.hangups > closed, "cancelled")

    def command(self, where: str, command: str, *, without_redis: bool = False) -> None:
        """A command that runs: paused, resumed, and cancelled when it runs anew."""
        mark = marker()
        name, session = self.start(command.format(mark=mark))
        self._running(mark, _PROCESSES[command])
        with self._redis_still() if without_redis else nothing():
            self.told(session, "pause", where, lambda: not processes_alive(mark), "paused")
            self._survivors(mark)
        if without_redis:
            self.stack.api.session_command(session.id, "cancel")
            return
        asked = self.model.asked(name)
        self.told(session, "resume", where, lambda: self.model.asked(name) > asked, "running")
        self._running(mark, _PROCESSES[command])
        self.told(session, "cancel", where, lambda: not processes_alive(mark), "cancelled")
        self._survivors(mark)

    def steer(self) -> None:
        """A word to a session that takes one short step after the other."""
        name, session = self.start("sleep 0.1")
        until(lambda: self.model.asked(name) >= 2, "the first steps")
        text = f"Heard {name}?"
        began = time.monotonic()
        self.stack.api.session_steer(session.id, text=text, key="")
        until(lambda: self.model.has_heard(name, text), "what was said")
        self.seconds["steer"]["step"].append(time.monotonic() - began)
        self.stack.api.session_command(session.id, "cancel")

    def _running(self, mark: str, count: int) -> None:
        until(lambda: len(processes_alive(mark)) >= count, "the command")

    def _survivors(self, mark: str) -> None:
        time.sleep(SURVIVAL_SECONDS)
        self.survivors += len(processes_alive(mark))

    @contextmanager
    def _redis_still(self) -> Iterator[None]:
        """Redis answers nobody meanwhile."""
        pid = int(state_read(Layout(self.stack.home).state)["servers"]["valkey"]["pid"])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def nothing() -> Iterator[None]:
    yield


def until(condition: Callable[[], object], what: str) -> None:
    if not reached(condition, seconds=PATIENCE_SECONDS):
        raise SystemExit(f"{what} did not come within {PATIENCE_SECONDS:.0f} s")


def reached(condition: Callable[[], object], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench control", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--rounds", type=int, default=10, help="how often each is done")
    options = parser.parse_args(argv)
    model = Model()
    with (
        tempfile.TemporaryDirectory(prefix="archon-bench-") as folder,
        home_open() as home,
        OpenAIServer(model) as server,
        stack_open(home) as stack,
    ):
        bench = Bench(stack, server, model, stack.project_make(_repository(Path(folder) / "repository")))
        # Once for warming up: the first session of a worker prepares the environment.
        bench.model_call()
        bench.seconds.clear()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} …", file=sys.stderr)
            bench.model_call()
            bench.command("command", SLEEP)
            bench.command("daemon", DAEMON)
            bench.command("daemon_without_redis", DAEMON, without_redis=True)
            bench.steer()
        bench.unexpected += server.refused
    report = _report(bench, options.rounds)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for key, value in report.items():
            print(f"{key:12} {value}")
    return 1 if bench.survivors or bench.unexpected else 0


def _report(bench: Bench, rounds: int) -> dict[str, Any]:
    def all_of(command: str) -> dict[str, float]:
        return _percentiles([value for values in bench.seconds[command].values() for value in values])

    return {
        "pause_s": all_of("pause"),
        "resume_s": all_of("resume"),
        "cancel_s": all_of("cancel"),
        "steer_s": all_of("steer"),
        "pause": {where: _percentiles(values) for where, values in bench.seconds["pause"].items()},
        "cancel": {where: _percentiles(values) for where, values in bench.seconds["cancel"].items()},
        "survivors": bench.survivors,
        "unexpected": bench.unexpected,
        "rounds": rounds,
        "load": os.getloadavg()[0],
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 3),
        # The smallest value that at least 95 of 100 don't pass.
        "p95": round(ordered[max(0, -(-len(ordered) * 95 // 100) - 1)], 3),
    }


def _repository(path: Path) -> Path:
    path.mkdir()
    (path / "README.md").write_text("Nothing to see.\n")
    identity = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *identity, *command], cwd=path, check=True)
    return path
