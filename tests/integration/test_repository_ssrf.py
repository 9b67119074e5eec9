"""An address of a repository is no way into the server's own network: a witness there sees no connection."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apps.projects.fetching import fetch_execute
from apps.projects.models import RepositorySource
from tests.api import client_for, user_make
from tests.loopback.git_server import git_server_run
from tests.repositories import repository_make

pytestmark = pytest.mark.django_db(transaction=True)


class Witness:
    """Listens on loopback and counts who came."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def witness(settings: Any, tmp_path: Path) -> Iterator[Witness]:
    settings.ARCHON_HOME = tmp_path / "home"
    settings.ARCHON_PRIVATE_HOSTS = []
    listening = Witness()
    yield listening
    listening.close()


def fetch_reason(url: str) -> dict[str, Any]:
    """What is told after a fetch of the address, or of the attempt to have one."""
    client = client_for(user_make())
    made = client.post("/api/projects/", {"name": "one", "repository_url": url})
    if made.status_code != 201:
        answer: dict[str, Any] = made.json()
        return answer
    fetch_execute(source_id=RepositorySource.objects.get(project_id=made.json()["id"]).id)
    project = client.get(f"/api/projects/{made.json()['id']}/").json()
    assert project["repository_state"] == "failed"
    reason: dict[str, Any] = project["source"]["reason"]
    return reason


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "224.0.0.1",
    ],
)
def test_private_addresses_are_refused_however_they_are_written(host: str, witness: Witness) -> None:
    for url in (f"https://{host}:{witness.port}/a/b.git", f"ssh://git@{host}:{witness.port}/a/b.git"):
        reason = fetch_reason(url)
        # The odd notations mean something to some systems and nothing to others; no connection is what counts.
        assert reason["code"] in ("address_refused", "fetch_failed", "remote_refused"), reason
    assert witness.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a",
        "git://example.org/a",
        "file:///etc",
        "/etc",
        "ext::sh -c touch% /tmp/x",
        "https://user:CANARY@example.org/a",
        "https://CANARY@example.org/a",
        "https://example.org/a?x=CANARY",
        "https://example.org/",
        "https://-oProxyCommand=x/a",
        "ssh://-oProxyCommand=x/a",
        "-oProxyCommand=x:a",
        "ssh://git@example.org:99999/a",
        "https://exa mple.org/a",
        "https://example.org/a\nb",
        "ftp://example.org/a",
        "",
    ],
)
def test_other_forms_are_refused_at_once(url: str, witness: Witness) -> None:
    made = client_for(user_make()).post(
        "/api/projects/", {"name": "one", "repository_url": url, "branch": "", "username": ""}
    )
    assert made.status_code == 400, made.json()
    assert "CANARY" not in made.content.decode().replace("repository_url", "")
    assert not RepositorySource.objects.exists()


def test_name_that_changes_its_address_after_the_check(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for once; the connection goes to the address that was checked, whatever the name means by then."""
    settings.ARCHON_HOME = tmp_path / "home"
    settings.ARCHON_PRIVATE_HOSTS = []
    answers: list[str] = []
    witness = Witness()
    real = asyncio.BaseEventLoop.getaddrinfo

    async def turncoat(loop: Any, host: Any, port: Any, **options: Any) -> Any:
        if host != "rebind.test":
            return await real(loop, host, port, **options)
        # Public when it is checked, and loopback ever after.
        answers.append("93.184.216.34" if not answers else "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[-1], port))]

    connected: list[str] = []

    async def connect(host: str, port: int, **options: Any) -> Any:
        connected.append(host)
        raise ConnectionRefusedError("no way out of a test")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", turncoat)
    monkeypatch.setattr(asyncio, "open_connection", connect)
    for url in (f"https://rebind.test:{witness.port}/a/b", f"ssh://git@rebind.test:{witness.port}/a/b"):
        answers.clear()
        assert fetch_reason(url)["code"] == "host_unreachable"
        assert answers == ["93.184.216.34"]
    assert set(connected) == {"93.184.216.34"}
    assert witness.connections == 0
    witness.close()


@contextmanager
def _forge(settings: Any, tmp_path: Path) -> Iterator[Any]:
    repository_make(tmp_path / "served" / "sample", {"a": "a"})
    with git_server_run(tmp_path / "served", tmp_path / "keys") as server:
        settings.ARCHON_GIT_CA_FILE = str(server.ca_file)
        settings.ARCHON_PRIVATE_HOSTS = [f"127.0.0.1:{server.port}"]
        yield server


def test_redirect_to_loopback(witness: Witness, settings: Any, tmp_path: Path) -> None:
    with _forge(settings, tmp_path) as server:
        for target in (f"https://127.0.0.1:{witness.port}/x", f"https://localhost:{witness.port}/x"):
            server.redirects["away"] = target
            assert fetch_reason(server.url("away/.git"))["code"] == "repository_refused"
    assert witness.connections == 0
