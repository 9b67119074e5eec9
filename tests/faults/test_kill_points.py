"""A fleet of workers whose parts die or vanish at chosen moments: each session ends once, each effect is there once.

Counted by witnesses outside of the product (``tests.counted``): lines in files, commits in git, requests that the model
server got. One fleet serves all tests, since starting one takes longer than most of them.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.counted import CountedModel, Counts
from tests.fleet import Fleet, fleet_open
from tests.killing import kill_points_open
from tests.loopback.openai_server import OpenAIServer
from tests.processes import processes_of, wait_until
from tests.slaying import MERGE_POINTS, RUNNING_POINTS, Aim, Slayer
from tests.stacks import home_open

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("fleet")]

WORKERS = 3
AT_ONCE = 6


@pytest.fixture(scope="module")
def fleet() -> Iterator[tuple[Fleet, Slayer]]:
    model = CountedModel()
    with ExitStack() as opened:
        home = opened.enter_context(home_open())
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="archon-test-"))
        points = opened.enter_context(kill_points_open())
        server = opened.enter_context(OpenAIServer(model))
        variables = {
            "ARCHON_KILL_POINTS": str(points.path),
            "ARCHON_LEASE_SECONDS": "3",
            # Long enough for the end of any step, however busy the machine is.
            "ARCHON_DRAIN_SECONDS": "60",
        }
        running = opened.enter_context(fleet_open(home, workers=WORKERS, **variables))
        yield running, Slayer(running, points, model, server.base_url, Path(folder), WORKERS)
        assert server.refused == []


@pytest.fixture
def slayer(fleet: tuple[Fleet, Slayer]) -> Slayer:
    return fleet[1]


def whole_require(slayer: Slayer, counts: Counts, *, jobs: int) -> None:
    ended = [slayer.statuses[number] for number in sorted(slayer.statuses)[-jobs:]]
    assert ended == ["completed"] * jobs, [worker.log.read_text()[-2000:] for worker in slayer.fleet.workers]
    assert counts.are_whole, "\n".join(counts.notes + slayer.fleet.complaints())


def claims_of(slayer: Slayer, jobs: int) -> list[int]:
    """How often each of the last jobs was taken up."""
    ids = [slayer.jobs[number].session_id for number in sorted(slayer.jobs)[-jobs:]]
    rows = slayer.fleet.rows("SELECT claims FROM agents_sessionhead WHERE session_id::text = ANY(%s)", (ids,))
    return [row["claims"] for row in rows]


def test_killed_at_each_point(slayer: Slayer) -> None:
    aims = [Aim(point, delay=0.1 if point == "command.running" else 0.0) for point in (*RUNNING_POINTS, *MERGE_POINTS)]
    counts = slayer.run(aims, at_once=AT_ONCE)
    whole_require(slayer, counts, jobs=len(aims))
    assert slayer.aims_drop() == []
    assert Counter(kill.point for kill in slayer.kills) == Counter(aim.point for aim in aims)
    assert len(slayer.recoveries()) >= len(RUNNING_POINTS)


def test_workers_race_for_the_same_sessions(slayer: Slayer) -> None:
    """The queue tells every worker of every session, again and again: one takes it up."""
    from celery import Celery

    sender = Celery(broker=slayer.fleet.services.environment()["CELERY_BROKER_URL"])
    sender.conf.broker_transport_options = {"global_keyprefix": "archon:"}

    def tell() -> None:
        for number in sorted(slayer.jobs)[-4:]:
            for _ in range(10):
                sender.send_task(
                    "apps.agents.tasks.execute_session",
                    kwargs={"session_id": slayer.jobs[number].session_id},
                    queue="archon",
                    ignore_result=True,
                )

    counts = slayer.run([None] * 4, at_once=4, meanwhile=tell)
    whole_require(slayer, counts, jobs=4)
    assert claims_of(slayer, 4) == [1] * 4


def test_redis_is_emptied_and_then_gone(slayer: Slayer) -> None:
    def vanish() -> None:
        with redis.Redis.from_url(slayer.fleet.services.environment()["REDIS_URL"]) as client:
            client.flushall()
        counts = slayer.run([None] * 2, at_once=2)
        whole_require(slayer, counts, jobs=2)
        with redis.Redis.from_url(slayer.fleet.services.environment()["REDIS_URL"]) as client:
            client.flushall()
            client.shutdown(nosave=True)

    counts = slayer.run([None] * 4, at_once=4, meanwhile=vanish)
    whole_require(slayer, counts, jobs=6)


def test_postgres_is_restarted(slayer: Slayer) -> None:
    def restart() -> None:
        found = {pid: line for pid, line in processes_of(slayer.fleet.home).items() if "bin/postgres" in line}
        assert found
        for pid in found:
            os.kill(pid, signal.SIGQUIT)
        assert wait_until(lambda: not set(found) & set(processes_of(slayer.fleet.home)))

    counts = slayer.run([None] * 4, at_once=4, meanwhile=restart)
    whole_require(slayer, counts, jobs=4)


def test_told_to_stop_under_load_it_hands_over_between_two_steps(slayer: Slayer) -> None:
    """Nothing is cut off: no call of the model is paid for twice, no tool call has an unknown outcome."""
    stopped: list[str] = []

    def stop() -> None:
        held = slayer.fleet.rows("SELECT owner FROM agents_sessionhead WHERE lease_expires_at > now()")
        counted = Counter(row["owner"] for row in held)
        [(owner, _)] = counted.most_common(1)
        worker = slayer.fleet.worker_of(int(owner.rpartition(":")[2]))
        assert worker is not None
        worker.process.terminate()
        assert wait_until(lambda: not worker.is_alive(), seconds=90)
        assert "is handed over" in worker.log.read_text()
        stopped.append(owner)

    counts = slayer.run([None] * AT_ONCE, at_once=AT_ONCE, meanwhile=stop)
    whole_require(slayer, counts, jobs=AT_ONCE)
    ids = [slayer.jobs[number].session_id for number in sorted(slayer.jobs)[-AT_ONCE:]]
    started = slayer.fleet.rows(
        "SELECT session_id, payload->>'worker' AS worker FROM agents_sessionevent"
        " WHERE session_id::text = ANY(%s) AND type = 'SessionStarted' ORDER BY seq",
        (ids,),
    )
    by_session: dict[str, list[str]] = {}
    for row in started:
        by_session.setdefault(str(row["session_id"]), []).append(row["worker"])
    moved = [workers for workers in by_session.values() if len(workers) > 1]
    assert moved and all(workers[0] == stopped[0] and len(set(workers)) == len(workers) for workers in moved)
    unsettled = slayer.fleet.rows(
        "SELECT key, state FROM usage_modelcall WHERE scope_id::text = ANY(%s) AND state <> 'settled'", (ids,)
    )
    assert unsettled == []
    unknown = slayer.fleet.rows(
        "SELECT name FROM agents_toolcall"
        " WHERE session_id::text = ANY(%s) AND observation LIKE '%%outcome is unknown%%'",
        (ids,),
    )
    assert unknown == []
