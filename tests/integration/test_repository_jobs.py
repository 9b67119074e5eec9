"""The job of a fetch: one worker has it, a change begins it again, and a session's start may ask for it."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.projects.fetching import fetch_execute
from apps.projects.models import FetchState, Project, RepositorySource
from apps.projects.repository import repository_path
from apps.projects.selectors import fetch_wanted_list
from apps.projects.services import repositories_prune
from tests.api import CheckedClient, client_for, user_make
from tests.loopback.git_server import GitServer, git_server_run
from tests.repositories import repository_make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def forge(settings: Any, tmp_path: Path) -> Iterator[GitServer]:
    """Over plain http, which is allowed for hosts that the operator lists."""
    repository_make(tmp_path / "served" / "sample", {"a.txt": "one"}, branch="trunk")
    with git_server_run(tmp_path / "served", tmp_path / "keys", tls=False) as server:
        settings.ARCHON_HOME = tmp_path / "home"
        settings.ARCHON_PRIVATE_HOSTS = [f"127.0.0.1:{server.port}"]
        yield server


@pytest.fixture
def client() -> CheckedClient:
    return client_for(user_make())


def project_make(client: CheckedClient, forge: GitServer, **fields: Any) -> dict[str, Any]:
    made = client.post("/api/projects/", {"name": "one", "repository_url": forge.url("sample/.git"), **fields})
    assert made.status_code == 201, made.json()
    project: dict[str, Any] = made.json()
    return project


class Fetching:
    """A fetch in a thread of its own, which stands still in the middle until it is let go."""

    def __init__(self, forge: GitServer, source_id: Any) -> None:
        self._forge = forge
        forge.stalled.set()
        self._thread = threading.Thread(target=self._run, args=(source_id,))
        self._thread.start()
        assert forge.stall_entered.wait(60)

    def _run(self, source_id: Any) -> None:
        try:
            fetch_execute(source_id=source_id)
        finally:
            connection.close()

    def ends(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def go_on(self) -> None:
        self._forge.stalled.clear()
        self.ends()


def test_one_worker_has_it_and_keeps_its_lease(forge: GitServer, client: CheckedClient) -> None:
    project_make(client, forge)
    source = RepositorySource.objects.get()
    assert fetch_wanted_list() == [source.id]
    fetching = Fetching(forge, source.id)
    try:
        source.refresh_from_db()
        assert (source.fetch_state, fetch_wanted_list()) == ("running", [])
        fence = source.fence
        fetch_execute(source_id=source.id)
        source.refresh_from_db()
        assert (source.fetch_state, source.fence) == ("running", fence), "the other one left it alone"
    finally:
        fetching.go_on()
    source.refresh_from_db()
    assert (source.fetch_state, source.fence, source.fetch_attempts) == ("idle", fence, 0)
    assert Project.objects.get().repository_state == "ready"


def test_who_lost_the_lease_has_no_say(forge: GitServer, client: CheckedClient) -> None:
    project = project_make(client, forge)
    source = RepositorySource.objects.get()
    fetching = Fetching(forge, source.id)
    # A change begins it again: the first one stops although its host still says nothing.
    changed = client.patch(f"/api/projects/{project['id']}/repository/source/", {"branch": "trunk"})
    assert changed.json()["source"]["state"] == "waiting"
    fetching.ends()
    source.refresh_from_db()
    assert (source.fetch_state, Project.objects.get().repository_state) == ("waiting", "cloning")
    forge.stalled.clear()
    fetch_execute(source_id=source.id)
    assert Project.objects.get().repository_state == "ready"


def test_dead_workers_are_followed_but_not_for_ever(forge: GitServer, client: CheckedClient) -> None:
    project = project_make(client, forge)
    source = RepositorySource.objects.get()
    past = timezone.now() - timedelta(seconds=1)
    RepositorySource.objects.update(fetch_state=FetchState.RUNNING, lease_until=past, fetch_attempts=5)
    assert fetch_wanted_list() == [source.id]
    fetch_execute(source_id=source.id)
    told = client.get(f"/api/projects/{project['id']}/").json()
    assert (told["repository_state"], told["source"]["reason"]["code"]) == ("failed", "given_up")
    client.post(f"/api/projects/{project['id']}/repository/sync/", {})
    fetch_execute(source_id=source.id)
    assert Project.objects.get().repository_state == "ready"


def test_deleting_the_project_stops_it_and_leaves_nothing(forge: GitServer, client: CheckedClient) -> None:
    project = project_make(client, forge)
    fetching = Fetching(forge, RepositorySource.objects.get().id)
    assert client.delete(f"/api/projects/{project['id']}/").status_code == 204
    fetching.ends()
    assert not repository_path(project_id=project["id"]).exists()


def test_uploads_wait_for_a_fetch(forge: GitServer, client: CheckedClient) -> None:
    project = project_make(client, forge)
    address = f"/api/projects/{project['id']}/repository/archive/"
    answer = client.generic("POST", address, b"x", content_type="application/zip")  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["state"]) == (409, "cloning")


def test_a_sessions_start_syncs_what_is_old(forge: GitServer, client: CheckedClient) -> None:
    project = project_make(client, forge, sync_minutes=10)
    source = RepositorySource.objects.get()
    fetch_execute(source_id=source.id)

    def start() -> tuple[int, str]:
        answer = client.post("/api/agents/sessions/", {"project": project["id"], "goal": "x", "model": "scripted:nope"})
        return answer.status_code, answer.json().get("state", "")

    # Past the repository: what is wrong then is the model.
    assert start() == (400, "")
    long_ago = timezone.now() - timedelta(minutes=11)
    RepositorySource.objects.update(synced_at=long_ago, attempted_at=long_ago)
    assert start() == (409, "syncing")
    assert start() == (409, "syncing")
    forge.tokens["sample"] = "now it wants one"
    fetch_execute(source_id=source.id)
    source.refresh_from_db()
    assert source.fetch_state == "failed"
    assert start() == (400, ""), "a source that does not answer holds nobody up"


def test_repositories_of_no_project_go(settings: Any, tmp_path: Path, forge: GitServer, client: CheckedClient) -> None:
    project = project_make(client, forge)
    fetch_execute(source_id=RepositorySource.objects.get().id)
    kept = repository_path(project_id=project["id"])
    gone, young = (repository_path(project_id=uuid.uuid4()) for _ in range(2))
    for folder in (gone, young):
        folder.mkdir()
    for folder in (kept, gone):
        os.utime(folder, (1, 1))
    repositories_prune()
    assert (kept.exists(), gone.exists(), young.exists()) == (True, False, True)
