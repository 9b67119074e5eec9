"""Embedded services: one supervisor for all who need them, gone when nobody does, and nobody else gets in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis

from integrations.embedded import Services, ServicesUnavailable, services_attach
from integrations.embedded.layout import Layout
from integrations.embedded.presence import owner_pid
from tests.processes import processes_of, wait_until

_ATTACH = """
import sys
from pathlib import Path
from integrations.embedded import services_attach
services = services_attach(Path(sys.argv[1]), durable=False, linger=0.5)
print(services.environment()["DB_PORT"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def services(archon_home: Path) -> Iterator[Services]:
    attached = services_attach(archon_home, durable=False)
    yield attached
    attached.detach()


def connect(services: Services, **changes: str) -> psycopg.Connection:
    variables = services.environment() | changes
    return psycopg.connect(
        host=variables["DB_HOST"],
        port=variables["DB_PORT"],
        user=variables["DB_USER"],
        password=variables["DB_PASSWORD"],
        dbname=variables["DB_NAME"],
        autocommit=True,
    )


def client_spawn(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _ATTACH, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_database_has_vectors_and_the_queue_keeps_what_it_is_given(services: Services) -> None:
    with connect(services) as connection:
        assert connection.execute("SELECT '[1,2,3]'::vector <-> '[1,2,4]'::vector").fetchone() == (1.0,)
        data = connection.execute("SHOW data_directory").fetchone()
    assert data is not None
    assert data[0].startswith(str(services.layout.home))
    client = redis.Redis.from_url(services.environment()["REDIS_URL"])
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert client.config_get("databases") == {"databases": "64"}
    client.close()


def test_a_wrong_password_opens_neither_and_no_process_shows_the_right_one(services: Services) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(services, DB_PASSWORD="wrong")
    url = services.environment()["REDIS_URL"]
    stranger = redis.Redis.from_url(url.replace(url.split(":")[2].split("@")[0], "wrong"))
    with pytest.raises(redis.AuthenticationError):
        stranger.ping()
    passwords = {server["password"] for server in services.servers.values()}
    assert len(passwords) == 2
    for command in processes_of(services.layout.home).values():
        assert not any(password in command for password in passwords)


def test_what_holds_passwords_is_private(services: Services) -> None:
    for path in services.layout.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_servers_do_not_run_as_root(services: Services) -> None:
    for server in services.servers.values():
        assert os.stat(f"/proc/{server['pid']}").st_uid != 0


def test_many_that_start_at_once_share_one_supervisor(archon_home: Path) -> None:
    clients = [client_spawn(archon_home) for _ in range(4)]
    try:
        ports = {client.stdout.readline() for client in clients if client.stdout is not None}
        assert len(ports) == 1
        assert "" not in ports
        supervisors = [command for command in processes_of(archon_home).values() if "embedded.supervisor" in command]
        assert len(supervisors) == 1
    finally:
        for client in clients:
            client.communicate()


def test_nothing_is_left_when_the_last_client_has_been_killed(archon_home: Path) -> None:
    client = client_spawn(archon_home)
    assert client.stdout is not None
    assert client.stdout.readline()
    assert len(processes_of(archon_home)) > 3
    with client:
        client.kill()
    assert wait_until(lambda: not processes_of(archon_home))
    assert not Layout(archon_home).state.exists()


def test_the_last_to_detach_waits_until_all_is_gone_and_the_others_do_not_notice(archon_home: Path) -> None:
    first = services_attach(archon_home, durable=False)
    second = services_attach(archon_home, durable=False)
    first.detach(wait=True)
    with connect(second) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    second.detach(wait=True)
    assert processes_of(archon_home) == {}


def test_those_who_come_while_it_stops_get_a_new_one(archon_home: Path) -> None:
    first = services_attach(archon_home, durable=False)
    with ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(first.detach, wait=True)
        second = services_attach(archon_home, durable=False)
        leaving.result()
    assert wait_until(second.is_alive)
    with connect(second) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    second.detach(wait=True)


def test_only_what_is_needed_is_started(archon_home: Path) -> None:
    queue = services_attach(archon_home, database=False, durable=False)
    assert set(queue.environment()) == {"REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}
    assert not (archon_home / "postgres").exists()
    both = services_attach(archon_home, durable=False)
    assert both.environment()["REDIS_URL"] == queue.environment()["REDIS_URL"]
    with connect(both) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    queue.detach()
    both.detach()


def test_addresses_and_data_outlast_a_restart(archon_home: Path) -> None:
    first = services_attach(archon_home, durable=False)
    with connect(first) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    first.detach(wait=True)
    second = services_attach(archon_home, durable=False)
    assert second.environment() == first.environment()
    assert second.database_identity == first.database_identity
    with connect(second) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    second.detach()


def test_a_home_whose_name_is_full_of_traps_works(archon_home: Path) -> None:
    home = archon_home / "a \"b\" 'c' $d\\e ünï" / ("deep" * 30)
    services = services_attach(home, durable=False)
    with connect(services) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    services.detach(wait=True)


def test_a_home_that_is_a_file_is_a_clear_error(archon_home: Path) -> None:
    file = archon_home / "file"
    file.touch()
    with pytest.raises(ServicesUnavailable, match="can't be used") as caught:
        services_attach(file / "home")
    assert "ARCHON_HOME" in caught.value.next_step


def test_the_supervisor_stops_for_sigterm_even_with_clients(services: Services) -> None:
    supervisor = owner_pid(services.layout.lock)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGTERM)
    assert wait_until(lambda: not services.is_alive())
    assert not any("postgres" in command for command in processes_of(services.layout.home).values())
