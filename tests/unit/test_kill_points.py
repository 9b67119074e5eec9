"""Where processes may be killed: every point is named once, and means nothing unless a test listens."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.core.kill_points import KILL_POINTS, kill_point, kill_points_of
from tests.killing import Arrival, kill_points_open
from tests.slaying import MERGE_POINTS, RUNNING_POINTS, Aim, aims_make

ROOT = Path(__file__).resolve().parents[2]


def test_every_point_in_the_code_is_listed_and_every_listed_one_is_in_the_code() -> None:
    sources = [path.read_text() for path in (ROOT / "apps").rglob("*.py")]
    placed = [name for source in sources for name in re.findall(r'\bkill_point\("([a-z.]+)"\)', source)]
    assert sorted(placed) == sorted(KILL_POINTS)


def test_a_process_stands_still_until_it_is_told_to_go_on(settings: Settings) -> None:
    arrivals: list[Arrival] = []
    told, passed = threading.Event(), threading.Event()

    def decide(arrival: Arrival) -> None:
        arrivals.append(arrival)
        assert told.wait(30)

    def come() -> None:
        with kill_points_of("a-session"):
            kill_point("commit.moved")
        passed.set()

    with kill_points_open() as points:
        points.decide = decide
        settings.ARCHON_KILL_POINTS = str(points.path)
        thread = threading.Thread(target=come)
        thread.start()
        assert not passed.wait(0.2)
        told.set()
        thread.join(30)
        assert passed.is_set()
        assert points.visits_of("a-session") == {"commit.moved": 1}
    assert arrivals == [Arrival("commit.moved", os.getpid(), "a-session", 1)]


def test_nobody_listens(settings: Settings, tmp_path: Path) -> None:
    settings.ARCHON_KILL_POINTS = str(tmp_path / "nobody")
    kill_point("commit.moved")


def test_nothing_is_asked_unless_a_socket_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ARCHON_KILL_POINTS = ""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    kill_point("commit.moved")


def test_production_refuses_them() -> None:
    secret = "".join(chr(ord("a") + number % 26) for number in range(60))
    variables = {
        "DJANGO_SETTINGS_MODULE": "config.settings.prod",
        "DJANGO_SECRET_KEY": secret,
        "JWT_SECRET_KEY": secret[::-1],
        "ARCHON_KILL_POINTS": "/tmp/points",
        "PATH": os.environ["PATH"],
    }
    ran = subprocess.run(
        [sys.executable, "-c", "import config.settings.prod"],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1 and "ARCHON_KILL_POINTS is for tests" in ran.stderr


def test_kills_are_spread_over_all_points_and_follow_from_the_seed() -> None:
    visits = Counter(dict.fromkeys(KILL_POINTS, 3))
    aims = aims_make(visits, kills=100, chance=random.Random(5))
    assert aims == aims_make(visits, kills=100, chance=random.Random(5))
    by_point = Counter(aim.point for aim in aims)
    assert set(by_point) == {*RUNNING_POINTS, *MERGE_POINTS} and sum(by_point.values()) == 100
    assert max(by_point.values()) - min(by_point.values()) <= 1
    assert all(isinstance(aim, Aim) and 1 <= aim.visit <= 3 for aim in aims)
