"""A repository comes over ssh from a real sshd: by its deploy key alone, and only from the host that it was before."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.projects.fetching import fetch_execute
from apps.projects.models import RepositorySource
from tests.api import CheckedClient, client_for, user_make
from tests.loopback.ssh_server import SshServer, key_make, ssh_server_run
from tests.repositories import repository_make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def forge(settings: Any, tmp_path: Path) -> Iterator[SshServer]:
    repository_make(tmp_path / "served" / "sample", {"a.txt": "one"}, branch="trunk")
    with ssh_server_run(tmp_path / "served", tmp_path / "ssh") as server:
        settings.ARCHON_HOME = tmp_path / "home"
        settings.ARCHON_PRIVATE_HOSTS = [f"127.0.0.1:{server.port}"]
        yield server


@pytest.fixture
def client() -> CheckedClient:
    return client_for(user_make())


def fetched(client: CheckedClient, project_id: str) -> dict[str, Any]:
    fetch_execute(source_id=RepositorySource.objects.get(project_id=project_id).id)
    answer: dict[str, Any] = client.get(f"/api/projects/{project_id}/").json()
    return answer


def project_fetched(client: CheckedClient, url: str, **fields: Any) -> dict[str, Any]:
    made = client.post("/api/projects/", {"name": "one", "repository_url": url, **fields})
    assert made.status_code == 201, made.json()
    return fetched(client, made.json()["id"])


def fingerprint(server: SshServer) -> str:
    public = server.host_key_file.with_suffix(".pub")
    return subprocess.run(
        ["ssh-keygen", "-lf", str(public)], check=True, capture_output=True, text=True
    ).stdout.split()[1]


def test_deploy_key_opens_and_the_hosts_key_is_kept_and_shown(
    forge: SshServer, client: CheckedClient, caplog: pytest.LogCaptureFixture
) -> None:
    project = project_fetched(client, forge.url("sample/.git"), deploy_key=forge.key)
    assert (project["repository_state"], project["default_branch"]) == ("ready", "trunk"), project
    source = project["source"]
    assert source["has_deploy_key"] is True
    assert [key["fingerprint"] for key in source["host_keys"]] == [fingerprint(forge)]
    assert [key["host"] for key in source["host_keys"]] == [f"[127.0.0.1]:{forge.port}"]
    secret = forge.key.splitlines()[2]
    stored = RepositorySource.objects.get()
    assert secret not in str(project) + caplog.text + stored.deploy_key


def test_changed_key_of_the_host_is_an_error_until_it_is_accepted(forge: SshServer, client: CheckedClient) -> None:
    project = project_fetched(client, forge.url("sample/.git"), deploy_key=forge.key)
    before = fingerprint(forge)
    forge.host_key_renew()
    client.post(f"/api/projects/{project['id']}/repository/sync/", {})
    told = fetched(client, project["id"])
    assert (told["repository_state"], told["source"]["state"]) == ("ready", "failed")
    assert told["source"]["reason"]["code"] == "host_key_changed", told["source"]["reason"]
    assert [key["fingerprint"] for key in told["source"]["host_keys"]] == [before], "it is not believed"
    client.patch(f"/api/projects/{project['id']}/repository/source/", {"known_hosts": ""})
    accepted = fetched(client, project["id"])["source"]
    assert (accepted["state"], accepted["host_keys"][0]["fingerprint"]) == ("idle", fingerprint(forge))


def test_pinned_key(forge: SshServer, client: CheckedClient, tmp_path: Path) -> None:
    right = forge.host_key_file.with_suffix(".pub").read_text()
    key_make(tmp_path / "another")
    wrong = (tmp_path / "another.pub").read_text()
    url = forge.url("sample/.git")
    assert project_fetched(client, url, deploy_key=forge.key, known_hosts=right)["repository_state"] == "ready"
    refused = project_fetched(client, url, deploy_key=forge.key, known_hosts=wrong)
    assert refused["source"]["reason"]["code"] == "host_key_changed", refused["source"]["reason"]


def test_wrong_key_no_key_and_a_key_behind_a_passphrase(
    forge: SshServer, client: CheckedClient, tmp_path: Path
) -> None:
    for key in (key_make(tmp_path / "other"), ""):
        reason = project_fetched(client, forge.url("sample/.git"), deploy_key=key)["source"]["reason"]
        assert reason["code"] == "repository_refused" and "deploy key" in reason["message"], reason
    locked = key_make(tmp_path / "locked", passphrase="secret words")
    for key, told in ((locked, "passphrase"), ("not a key", "not a private key")):
        answer = client.post(
            "/api/projects/", {"name": "x", "repository_url": forge.url("sample/.git"), "deploy_key": key}
        )
        assert answer.status_code == 400 and told in answer.json()["detail"], answer.json()


def test_the_hosts_own_agent_and_configuration_are_not_used(
    forge: SshServer, client: CheckedClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the server has keys that open the repository; without a deploy key they open nothing."""
    agent = tmp_path / "agent"
    started = subprocess.Popen(["ssh-agent", "-D", "-a", str(agent)], stdout=subprocess.DEVNULL)
    try:
        while not agent.exists():
            assert started.poll() is None
        (tmp_path / "ssh" / "client_key").chmod(0o600)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(agent)}
        subprocess.run(
            ["ssh-add", "-q", str(tmp_path / "ssh" / "client_key")], env=environment, check=True, capture_output=True
        )
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        reason = project_fetched(client, forge.url("sample/.git"))["source"]["reason"]
        assert reason["code"] == "repository_refused"
    finally:
        started.terminate()
        started.wait()


def test_repository_that_is_not_there(forge: SshServer, client: CheckedClient) -> None:
    reason = project_fetched(client, forge.url("missing"), deploy_key=forge.key)["source"]["reason"]
    assert "no such repository" in reason["message"], reason
