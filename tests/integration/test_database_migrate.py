"""Several processes bring one database up to date at a time: each succeeds, and it is done once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings

from config.database_migrate import LOCK


def connected(name: str) -> psycopg.Connection:
    address = settings.DATABASES["default"]
    return psycopg.connect(
        host=address["HOST"],
        port=address["PORT"],
        user=address["USER"],
        password=address["PASSWORD"],
        dbname=name,
        autocommit=True,
    )


@pytest.fixture
def database() -> Iterator[str]:
    name = f"migrate_{os.getpid()}"
    with connected("postgres") as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        yield name
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def started(database: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "config.database_migrate"],
        env={**os.environ, "DB_NAME": database},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_replicas_that_start_together(database: str) -> None:
    processes = [started(database) for _ in range(3)]
    answers = [process.communicate(timeout=150)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert sum("Applying authentication.0001" in answer for answer in answers) == 1
    assert sum("No migrations to apply" in answer for answer in answers) == 2


@pytest.mark.slow
def test_who_comes_later_waits_for_who_is_at_it(database: str) -> None:
    with connected(database) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        process = started(database)
        assert process.stdout is not None
        assert "waiting for it" in process.stdout.readline()
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)
    # The lock goes with its connection, as it would with a container that is killed.
    process.communicate(timeout=150)
    assert process.returncode == 0
