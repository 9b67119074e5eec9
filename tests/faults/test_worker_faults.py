"""Workers that die or stop in the middle of a session: another one follows, nothing is lost and nothing done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.resources import Event, Session
from tests.builders import git
from tests.e2e.test_session_control import assert_done_once
from tests.launching import ROOT, environment
from tests.loopback.agents import (
    Agents,
    Gate,
    Turn,
    call,
    finishes,
    is_planner,
    plans,
    runs,
    says,
    task_title,
    turn,
)
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.processes import processes_of, wait_until
from tests.sandboxing import marker, processes_alive
from tests.small_repository import CHECK, MEND, repository, server
from tests.stacks import LiveStack, home_open, stack_open

# pytest finds fixtures by their names in a file.
__all__ = ["repository", "server"]

LEASE_SECONDS = "3"
ONCE = runs("echo once >> log.txt")


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    """A stack of our own, whose worker is quick to follow."""
    with home_open() as home, stack_open(home, ARCHON_LEASE_SECONDS=LEASE_SECONDS) as running:
        yield running


@dataclass
class Workers:
    """The stack's own worker, which is held still until it is to follow, and one that has the session until then."""

    stack: LiveStack
    first: subprocess.Popen[bytes]

    def follow(self) -> None:
        """Let the stack's own worker go on."""
        for pid in own_workers(self.stack):
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """The first one dies, and the other may follow."""
        self.first.kill()
        self.first.wait()
        self.follow()

    def kill_and_replace(self) -> None:
        """The first one dies, and a new one takes its place; the stack's own stays held."""
        self.first.kill()
        self.first.wait()
        self.first = first_start(self.stack)


def own_workers(stack: LiveStack) -> list[int]:
    return [
        pid for pid, command in processes_of(stack.home).items() if "celery" in command and " -n first" not in command
    ]


def first_start(stack: LiveStack) -> subprocess.Popen[bytes]:
    """A worker beside the stack's own, ready to take sessions."""
    log = stack.home / "logs" / "first.log"
    schedule = stack.home / "stack" / "beat-first"
    options = ("--pool", "threads", "--without-gossip", "--without-mingle", "--loglevel", "info", "-n", "first@%h")
    with log.open("wb") as output:
        first = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_app", "worker", *options],
            cwd=ROOT,
            env=environment(stack.home, ARCHON_BEAT_SCHEDULE=str(schedule), **stack.variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert wait_until(lambda: "ready." in log.read_text() or first.poll() is not None) and first.poll() is None
    return first


@contextmanager
def workers(stack: LiveStack) -> Iterator[Workers]:
    both = Workers(stack, first_start(stack))
    try:
        for pid in own_workers(stack):
            os.kill(pid, signal.SIGSTOP)
        yield both
    finally:
        both.first.kill()
        both.first.wait()
        both.follow()


def start(
    stack: LiveStack, repository: Path, server: OpenAIServer, turns: Sequence[Turn], check: str = CHECK
) -> Session:
    server.answer = Agents(turns)
    return stack.session_start(repository, base_url=server.base_url, checks=[check])


def assert_followed(stack: LiveStack, session: Session, *, claims: int = 2) -> list[Event]:
    """Verified, by another worker than the first, each thing once."""
    ended = stack.session_wait(session.id, "completed")
    assert ended.outcome == "verified", stack.story(session.id)
    events = assert_done_once(stack, session.id)
    started = [event.payload for event in events if event.type == "SessionStarted"]
    assert [start["attempt"] for start in started] == list(range(1, claims + 1)), stack.story(session.id)
    assert len({start["worker"] for start in started}) == claims
    return events


def test_killed_while_the_model_thinks(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    gate = Gate()
    with workers(stack) as both:
        session = start(stack, repository, server, [ONCE, gate.holds(says(MEND)), finishes()])
        assert gate.reached.wait(60), stack.story(session.id)
        both.kill()
        gate.open()
        assert_followed(stack, session)
    assert stack.api.session_diff(session.id).diff.count("+once") == 1
    # The call that was lost is paid for: the endpoint had it.
    assert stack.api.session_get(session.id).usage.steps == len(server.requests) == 4


def test_killed_while_a_command_runs(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    mark = marker()
    turns = [runs(f"echo once >> log.txt; sleep {mark}"), says(MEND), finishes()]
    with workers(stack) as both:
        session = start(stack, repository, server, turns)
        assert wait_until(lambda: processes_alive(mark))
        both.kill()
        assert wait_until(lambda: not processes_alive(mark), seconds=10), "the command outlives its worker"
        assert_followed(stack, session)
    [unknown] = {request.results("run_command")[0] for request in server.requests if request.results("run_command")}
    assert "outcome is unknown" in unknown
    assert stack.api.session_diff(session.id).diff.count("+once") == 1


@pytest.mark.parametrize("phase", ["preparing", "verifying"])
def test_killed_while_the_checks_run(stack: LiveStack, repository: Path, server: OpenAIServer, phase: str) -> None:
    with workers(stack) as both:
        check = f"sleep 1.{os.getpid()}; {CHECK}"
        session = start(stack, repository, server, [says(MEND), finishes()], check=check)
        stack.event_wait(session.id, "PhaseChanged", phase=phase)
        assert wait_until(lambda: processes_alive(f"1.{os.getpid()}"))
        both.kill()
        events = assert_followed(stack, session)
    finished = [event.payload["stage"] for event in events if event.type == "ChecksFinished"]
    assert finished == ["before", "after"]
    stack.api.bundle_download(session.id, target=repository.parent / "bundle")
    git(repository, "fetch", "-q", str(repository.parent / "bundle"), session.branch)
    assert git(repository, "rev-list", "--count", "HEAD..FETCH_HEAD") == "1"


def test_killed_again_and_again(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    gates = [Gate() for _ in range(3)]
    turns = [gates[0].holds(ONCE), gates[1].holds(says(MEND)), gates[2].holds(finishes())]
    with workers(stack) as both:
        session = start(stack, repository, server, turns)
        for gate in gates[:-1]:
            assert gate.reached.wait(60), stack.story(session.id)
            both.kill_and_replace()
            gate.open()
        assert gates[-1].reached.wait(60), stack.story(session.id)
        both.kill()
        gates[-1].open()
        assert_followed(stack, session, claims=4)
    assert stack.api.session_diff(session.id).diff.count("+once") == 1


def test_told_to_stop_it_hands_over_at_once(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    gate = Gate()
    with workers(stack) as both:
        session = start(stack, repository, server, [gate.holds(says(MEND)), finishes()])
        assert gate.reached.wait(60), stack.story(session.id)
        both.first.terminate()
        assert wait_until(lambda: both.first.poll() is not None, seconds=20), "it does not end"
        assert stack.api.session_get(session.id).status == "running"
        both.follow()
        gate.open()
        assert_followed(stack, session)


@pytest.mark.parametrize("where", ["model", "command"])
def test_one_that_wakes_up_late_changes_nothing(
    stack: LiveStack, repository: Path, server: OpenAIServer, where: str
) -> None:
    mark, gate = marker(), Gate()
    middle = gate.holds(says(MEND)) if where == "model" else runs(f"sleep {mark}")
    turns = [ONCE, middle, *([says(MEND)] if where == "command" else []), finishes()]
    with workers(stack) as both:
        session = start(stack, repository, server, turns)
        assert wait_until(lambda: gate.reached.is_set() or processes_alive(mark))
        both.first.send_signal(signal.SIGSTOP)
        both.follow()
        gate.open()
        ended = stack.session_wait(session.id, "completed")
        assert ended.outcome == "verified"
        told, diff = stack.events(session.id), stack.api.session_diff(session.id)
        both.first.send_signal(signal.SIGCONT)
        log = stack.home / "logs" / "first.log"
        assert wait_until(lambda: "was taken away" in log.read_text(), seconds=30), log.read_text()[-2000:]
        assert wait_until(lambda: not processes_alive(mark), seconds=30)
        assert stack.events(session.id) == told
        assert stack.api.session_diff(session.id) == diff
        assert_followed(stack, session)
        # It is as good as new.
        for pid in own_workers(stack):
            os.kill(pid, signal.SIGSTOP)
        again = start(stack, repository, server, [says(MEND), finishes()])
        assert stack.session_wait(again.id, "completed").outcome == "verified"


@pytest.mark.parametrize("part", ["bin/postgres", "valkey-server", "config.serve"])
def test_what_it_needs_is_killed(stack: LiveStack, repository: Path, server: OpenAIServer, part: str) -> None:
    gate = Gate()
    session = start(stack, repository, server, [ONCE, gate.holds(says(MEND)), finishes()])
    assert gate.reached.wait(60), stack.story(session.id)
    for pid, command in processes_of(stack.home).items():
        if part in command:
            os.kill(pid, signal.SIGKILL)

    assert wait_until(lambda: any(part in command for command in processes_of(stack.home).values()))
    gate.open()
    assert stack.session_wait(session.id, "completed").outcome == "verified", stack.story(session.id)
    assert_done_once(stack, session.id)
    assert stack.api.session_diff(session.id).diff.count("+once") == 1


def test_many_sessions_survive_their_worker(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    gate = Gate()
    server.answer = Agents(
        [ONCE, gate.holds(says(MEND)), finishes()], planner=[says(call("list_files")), plans("One", "Two")]
    )
    project = stack.project_make(repository)
    with workers(stack) as both:
        sessions = [
            stack.session_start(project, base_url=server.base_url, checks=[CHECK], goal=f"Goal {number}")
            for number in range(6)
        ]
        assert gate.reached.wait(60), stack.story(sessions[0].id)
        for session in sessions:
            stack.event_wait(session.id, "ToolFinished", name="run_command")
        both.kill()
        gate.open()
        for session in sessions:
            assert_followed(stack, session)
            assert stack.api.session_diff(session.id).diff.count("+once") == 1


@pytest.mark.timeout(400)
@pytest.mark.parametrize("round_", range(3))
def test_killed_at_whatever_moment(stack: LiveStack, repository: Path, server: OpenAIServer, round_: int) -> None:
    """Each worker lives for a moment; what a command leaves is there once, or the model was told that it may be."""
    titles = ["One", "Two", "Three"]

    def coder(request: Request) -> Reply:
        title = task_title(request)
        said = [
            runs(f"echo {title} >> log.txt"),
            says(call("run_checks"), call("list_files")),
            says(MEND) if title == "Three" else says(call("write_file", path=f"{title}.txt", content=title)),
            finishes(f"{title} is done."),
        ]
        return said[min(turn(request), 3)]

    server.answer = Agents(coder, planner=[says(call("list_files")), plans(*titles)])
    session = None
    for _ in range(4):
        with workers(stack) as both:
            session = session or stack.session_start(
                repository, base_url=server.base_url, checks=[CHECK], agent_type="executor"
            )
            claims = len([event for event in stack.events(session.id) if event.type == "SessionStarted"])
            if stack.api.session_get(session.id).status == "completed":
                break
            stack.event_wait(session.id, "SessionStarted", attempt=claims + 1)
            time.sleep(random.uniform(0, 0.8))
            both.first.kill()
            both.first.wait()
    assert session is not None
    assert stack.session_wait(session.id, "completed").outcome == "verified", stack.story(session.id)
    events = assert_done_once(stack, session.id)
    assert [event.payload["title"] for event in events if event.type == "TaskStarted"] == titles
    stack.api.bundle_download(session.id, target=repository.parent / "bundle")
    git(repository, "fetch", "-q", str(repository.parent / "bundle"), session.branch)
    assert git(repository, "log", "--format=%s", "--reverse", "HEAD..FETCH_HEAD").splitlines() == titles
    log = git(repository, "show", "FETCH_HEAD:log.txt").splitlines()
    assert sorted(set(log)) == sorted(log), f"made twice: {log}"
    for title in titles:
        [results] = {
            tuple(request.results("run_command"))
            for request in server.requests
            if not is_planner(request) and task_title(request) == title and request.results("run_command")
        }
        assert title in log or "outcome is unknown" in results[0], stack.story(session.id)
