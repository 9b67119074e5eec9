"""Embedded services whose processes are killed: what was acknowledged is there afterwards, nothing runs twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from integrations.embedded import Services, ServicesUnavailable, services_attach
from integrations.embedded.presence import owner_pid
from tests.integration.test_embedded_services import connect
from tests.processes import processes_of, wait_until


@pytest.fixture
def services(archon_home: Path) -> Iterator[Services]:
    """Durable ones with a row and a key in them."""
    attached = services_attach(archon_home)
    with connect(attached) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with redis.Redis.from_url(attached.environment()["REDIS_URL"]) as client:
        client.rpush("queue", "job")
    yield attached
    attached.detach()


def is_whole(services: Services) -> bool:
    """Whether both servers answer with what was put into them."""
    try:
        with connect(services) as connection, redis.Redis.from_url(services.environment()["REDIS_URL"]) as client:
            kept = connection.execute("SELECT answer FROM kept").fetchone()
            return kept == (42,) and client.lrange("queue", 0, -1) == [b"job"]
    except (psycopg.OperationalError, redis.RedisError):
        return False


def data_folder(services: Services) -> Path:
    with connect(services) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0])


def supervisor_kill(services: Services) -> None:
    supervisor = owner_pid(services.layout.lock)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    assert wait_until(lambda: owner_pid(services.layout.lock) != supervisor)


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_a_server_that_is_killed_comes_back_at_its_address(services: Services, server: str) -> None:
    for _ in range(2):
        victims = [pid for pid, command in processes_of(services.layout.home).items() if server in command.split()[0]]
        assert victims
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: is_whole(services))


def test_servers_die_with_their_supervisor_and_the_next_one_brings_all_back(services: Services) -> None:
    for _ in range(3):
        supervisor_kill(services)
        again = services_attach(services.layout.home)
        assert again.environment() == services.environment()
        assert is_whole(again)
        again.detach()


def test_without_clients_a_killed_supervisor_leaves_nothing_behind(archon_home: Path) -> None:
    services = services_attach(archon_home)
    supervisor_kill(services)
    services.detach()
    assert wait_until(lambda: not processes_of(archon_home))


def test_a_postmaster_that_hangs_is_ended_before_another_starts(services: Services) -> None:
    old = services.servers["postgres"]["pid"]
    os.kill(old, signal.SIGSTOP)
    supervisor_kill(services)
    again = services_attach(services.layout.home)
    assert is_whole(again)
    assert old not in processes_of(services.layout.home)
    again.detach()


def test_a_stale_pid_file_that_names_a_stranger_neither_stops_the_start_nor_hurts_the_stranger(
    services: Services,
) -> None:
    data = data_folder(services)
    services.detach(wait=True)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n1\n5432\n\n127.0.0.1\n  1 1\nready   \n")
        again = services_attach(services.layout.home)
        assert is_whole(again)
        assert stranger.poll() is None
        stranger.kill()
    again.detach()


def test_an_unfinished_data_folder_is_made_anew(archon_home: Path) -> None:
    draft = archon_home / "postgres.draft"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18")
    services = services_attach(archon_home)
    with connect(services) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    services.detach()


def test_a_port_that_was_taken_meanwhile_is_exchanged_for_another(services: Services) -> None:
    port = services.servers["postgres"]["port"]
    services.detach(wait=True)
    with socket.create_server(("127.0.0.1", port)):
        again = services_attach(services.layout.home)
        assert again.servers["postgres"]["port"] != port
        assert is_whole(again)
        again.detach(wait=True)


def test_a_data_folder_that_is_damaged_is_a_clear_error_with_the_log(services: Services) -> None:
    data = data_folder(services)
    services.detach(wait=True)
    (data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ServicesUnavailable, match="database files are incompatible") as caught:
        services_attach(services.layout.home)
    assert "doctor" in caught.value.next_step


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_a_clear_error(archon_home: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m,mode=755", "tmpfs", str(archon_home)], check=True)
    try:
        with pytest.raises(ServicesUnavailable, match="disk space") as caught:
            services_attach(archon_home)
        assert "free some space" in caught.value.next_step
    finally:
        subprocess.run(["umount", str(archon_home)], check=True)
