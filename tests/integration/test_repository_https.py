"""A repository comes over https as forges serve it: with its history, by its token, and from its host alone."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.projects.fetching import fetch_execute
from apps.projects.models import Project, RepositorySource
from apps.projects.repository import commit_files, repository_path
from tests.api import CheckedClient, client_for, user_make
from tests.loopback.git_server import GitServer, git_server_run
from tests.repositories import repository_make

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "tok-CANARY-4711"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit_add(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", f"Add {name}")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def forge(settings: Any, tmp_path: Path) -> Iterator[GitServer]:
    """A forge whose repository `sample` has a few commits, a tag and a second branch."""
    folder = tmp_path / "served"
    work = folder / "sample"
    repository_make(work, {"a.txt": "one"}, branch="trunk")
    git(work, "tag", "v1")
    git(work, "branch", "other")
    commit_add(work, "b.txt", "two")
    with git_server_run(folder, tmp_path / "keys") as server:
        settings.ARCHON_HOME = tmp_path / "home"
        settings.ARCHON_GIT_CA_FILE = str(server.ca_file)
        settings.ARCHON_PRIVATE_HOSTS = [f"127.0.0.1:{server.port}", f"localhost:{server.port}"]
        yield server


@pytest.fixture
def client() -> CheckedClient:
    return client_for(user_make())


def project_fetched(client: CheckedClient, url: str, **fields: Any) -> dict[str, Any]:
    """The project as it is after its first fetch."""
    made = client.post("/api/projects/", {"name": "one", "repository_url": url, **fields})
    assert made.status_code == 201, made.json()
    assert made.json()["repository_state"] == "cloning"
    return fetched(client, made.json()["id"])


def fetched(client: CheckedClient, project_id: str) -> dict[str, Any]:
    fetch_execute(source_id=RepositorySource.objects.get(project_id=project_id).id)
    answer: dict[str, Any] = client.get(f"/api/projects/{project_id}/").json()
    return answer


def test_all_of_the_history_comes_and_the_default_branch_is_found(forge: GitServer, client: CheckedClient) -> None:
    work = forge.folder / "sample"
    project = project_fetched(client, forge.url("sample/.git"))
    assert (project["repository_state"], project["default_branch"]) == ("ready", "trunk"), project
    assert project["head_commit"] == git(work, "rev-parse", "trunk")
    assert (project["source"]["state"], project["source"]["reason"]) == ("idle", None)
    git_dir = repository_path(project_id=project["id"])
    assert git(git_dir, "rev-list", "--count", "trunk") == "2"
    assert git(git_dir, "rev-parse", "v1") == git(work, "rev-parse", "v1")
    branches = client.get(f"/api/projects/{project['id']}/repository/branches/").json()
    assert [(row["name"], row["default"]) for row in branches] == [("other", False), ("trunk", True)]
    changed = client.patch(f"/api/projects/{project['id']}/", {"default_branch": "other"}).json()
    assert (changed["default_branch"], changed["head_commit"]) == ("other", git(work, "rev-parse", "other"))
    assert client.patch(f"/api/projects/{project['id']}/", {"default_branch": "none"}).status_code == 404


def test_token_opens_and_is_nowhere_to_be_seen(
    forge: GitServer, client: CheckedClient, caplog: pytest.LogCaptureFixture
) -> None:
    forge.tokens["sample"] = TOKEN
    project = project_fetched(client, forge.url("sample/.git"), token=TOKEN, username="me")
    assert project["repository_state"] == "ready", project
    assert project["source"]["has_token"] is True and project["source"]["username"] == "me"
    source = RepositorySource.objects.get()
    assert TOKEN not in str(project) and TOKEN not in source.token and TOKEN not in caplog.text
    for path in repository_path(project_id=project["id"]).rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("", "The host wants a token, and none is set"),
        ("wrong-CANARY", "The host does not accept the token"),
        ("may-read-nothing", "does not let them read this repository"),
    ],
)
def test_private_repository_without_rights(forge: GitServer, client: CheckedClient, token: str, told: str) -> None:
    forge.tokens["sample"] = TOKEN
    project = project_fetched(client, forge.url("sample/.git"), token=token)
    reason = project["source"]["reason"]
    assert (project["repository_state"], project["source"]["state"]) == ("failed", "failed")
    assert reason["code"] == "repository_refused" and "token" in reason["next_step"]
    assert told in reason["message"] and "askpass" not in reason["message"]
    assert "CANARY" not in str(project)
    started = client.post("/api/agents/sessions/run/", {"project": project["id"], "goal": "x"})
    assert (started.status_code, started.json()["state"]) == (409, "failed")
    # The right one later makes it well.
    answer = client.patch(f"/api/projects/{project['id']}/repository/source/", {"token": TOKEN}).json()
    assert (answer["repository_state"], answer["source"]["state"]) == ("cloning", "waiting")
    started = client.post("/api/agents/sessions/run/", {"project": project["id"], "goal": "x"})
    assert (started.status_code, started.json()["state"]) == (409, "cloning")
    assert fetched(client, project["id"])["repository_state"] == "ready"


def test_credentials_do_not_follow_to_another_host(forge: GitServer, client: CheckedClient, settings: Any) -> None:
    forge.tokens["sample"] = TOKEN
    project = project_fetched(client, forge.url("sample/.git"), token=TOKEN)
    forge.authorizations.clear()
    moved = client.patch(
        f"/api/projects/{project['id']}/repository/source/", {"url": forge.url("sample/.git", host="localhost")}
    ).json()
    assert moved["source"]["has_token"] is False
    assert fetched(client, project["id"])["source"]["state"] == "failed"
    assert forge.authorizations and not any(forge.authorizations)


def test_redirects_stay_on_the_host(forge: GitServer, client: CheckedClient, tmp_path: Path) -> None:
    with git_server_run(forge.folder, tmp_path / "other-keys") as witness:
        forge.redirects["moved"] = "/sample"
        forge.redirects["away"] = witness.url("sample")
        forge.redirects["plain"] = f"http://127.0.0.1:{forge.port}/sample"
        assert project_fetched(client, forge.url("moved/.git"))["repository_state"] == "ready"
        for name in ("away", "plain"):
            project = project_fetched(client, forge.url(f"{name}/.git"))
            assert project["source"]["reason"]["code"] == "repository_refused", project
        assert witness.requests == []


def test_certificate_of_an_unknown_authority_or_another_name(
    forge: GitServer, client: CheckedClient, settings: Any
) -> None:
    settings.ARCHON_GIT_CA_FILE = ""
    reason = project_fetched(client, forge.url("sample/.git"))["source"]["reason"]
    assert "certificate" in reason["message"] and "ARCHON_GIT_CA_FILE" in reason["next_step"]
    assert forge.requests == []


def test_what_is_not_there(forge: GitServer, client: CheckedClient) -> None:
    (forge.folder / "empty").mkdir()
    git(forge.folder / "empty", "init", "--quiet")
    work = forge.folder / "headless"
    repository_make(work, {"a": "a"}, branch="one")
    git(work, "branch", "two")
    git(work, "symbolic-ref", "HEAD", "refs/heads/gone")
    for name, told in (
        ("missing", "no such repository"),
        ("empty/.git", "no commits"),
        ("headless/.git", "several branches"),
    ):
        reason = project_fetched(client, forge.url(name))["source"]["reason"]
        assert told in reason["message"] and reason["next_step"], reason
    assert project_fetched(client, forge.url("headless/.git"), branch="two")["default_branch"] == "two"
    reason = project_fetched(client, forge.url("headless/.git"), branch="three")["source"]["reason"]
    assert "one, two" in reason["next_step"]


def test_host_that_does_not_exist_or_answer(client: CheckedClient, settings: Any, tmp_path: Path) -> None:
    settings.ARCHON_HOME = tmp_path / "home"
    settings.ARCHON_PRIVATE_HOSTS = ["127.0.0.1:9"]
    reason = project_fetched(client, "https://nothing.invalid/a/b")["source"]["reason"]
    assert reason["code"] == "fetch_failed" and "nothing.invalid" in reason["message"]
    reason = project_fetched(client, "https://127.0.0.1:9/a/b")["source"]["reason"]
    assert reason["code"] == "host_unreachable", reason


def test_history_over_the_limit(forge: GitServer, client: CheckedClient, settings: Any) -> None:
    (forge.folder / "sample" / "big.bin").write_bytes(random.Random(1).randbytes(3_000_000))
    commit_add(forge.folder / "sample", "c.txt", "c")
    settings.ARCHON_REPOSITORY_LIMIT_MB = 1
    project = project_fetched(client, forge.url("sample/.git"))
    assert project["source"]["reason"]["code"] == "too_large"
    packs = list((repository_path(project_id=project["id"]) / "objects" / "pack").iterdir())
    assert sum(path.stat().st_size for path in packs) < 1_000_000, "nothing of it stays"
    settings.ARCHON_REPOSITORY_LIMIT_MB = 100
    client.post(f"/api/projects/{project['id']}/repository/sync/", {})
    assert fetched(client, project["id"])["repository_state"] == "ready"


def test_sync_moves_forwards_and_force_moves_anywhere(forge: GitServer, client: CheckedClient) -> None:
    work = forge.folder / "sample"
    project = project_fetched(client, forge.url("sample/.git"))
    first = project["head_commit"]
    sync = f"/api/projects/{project['id']}/repository/sync/"
    second = commit_add(work, "c.txt", "three")
    asked = client.post(sync, {})
    assert (asked.status_code, asked.json()["repository_state"]) == (202, "ready")
    assert client.post(sync, {}).status_code == 202, "once is enough"
    assert fetched(client, project["id"])["head_commit"] == second
    git(work, "reset", "--quiet", "--hard", first)
    rewritten = commit_add(work, "d.txt", "four")
    client.post(sync, {})
    told = fetched(client, project["id"])
    assert (told["repository_state"], told["head_commit"], told["source"]["state"]) == ("ready", second, "failed")
    assert told["source"]["reason"]["code"] == "conflict" and "force" in told["source"]["reason"]["next_step"]
    client.post(sync, {"force": True})
    assert fetched(client, project["id"])["head_commit"] == rewritten
    git_dir = repository_path(project_id=project["id"])
    assert git(git_dir, "rev-parse", f"refs/replaced/trunk/{second}") == second
    assert RepositorySource.objects.get().fetch_force is False


def test_submodules_come_from_where_they_say(forge: GitServer, client: CheckedClient) -> None:
    library, work = forge.folder / "library", forge.folder / "sample"
    commit = repository_make(library, {"lib.py": "x = 1\n"})
    forge.tokens |= {"sample": TOKEN, "library": TOKEN}
    git(work, "submodule", "--quiet", "add", str(library), "vendor/library")
    git(work, "submodule", "--quiet", "add", str(library), "vendor/gone")
    text = (work / ".gitmodules").read_text()
    text = text.replace(f"vendor/library\n\turl = {library}", "vendor/library\n\turl = ../../library/.git")
    text = text.replace(f"vendor/gone\n\turl = {library}", "vendor/gone\n\turl = file:///etc")
    (work / ".gitmodules").write_text(text)
    git(work, "commit", "--quiet", "-am", "Submodules")
    project = project_fetched(client, forge.url("sample/.git"), token=TOKEN)
    assert project["repository_state"] == "ready", project
    assert [(notice["kind"], notice["path"]) for notice in project["repository_notices"]] == [
        ("submodule", "vendor/gone")
    ], project["repository_notices"]
    assert commit in git(repository_path(project_id=project["id"]), "ls-tree", "-r", "trunk")


def test_lfs_pointers_are_told(forge: GitServer, client: CheckedClient) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
    commit_add(forge.folder / "sample", "model.bin", pointer)
    project = project_fetched(client, forge.url("sample/.git"))
    [notice] = project["repository_notices"]
    assert (notice["kind"], notice["path"]) == ("lfs", "model.bin")
    kept = commit_files(project_id=project["id"], commit=project["head_commit"], paths=["model.bin"])
    assert kept == {"model.bin": pointer.encode()}


def test_source_is_the_owners_and_can_be_forgotten(forge: GitServer, client: CheckedClient) -> None:
    project = project_fetched(client, forge.url("sample/.git"))
    member = user_make()
    Project.objects.get().memberships.create(user=member, role="member")
    address = f"/api/projects/{project['id']}/repository/"
    assert client_for(member).patch(f"{address}source/", {"branch": "x"}).status_code == 403
    assert client_for(member).post(f"{address}sync/", {}).status_code == 202
    assert client.delete(f"{address}source/").status_code == 204
    assert client.get(f"{address}source/").json()["state"] == "no_source"
    assert client.post(f"{address}sync/", {}).json()["state"] == "no_source"
    assert client.get(f"/api/projects/{project['id']}/").json()["repository_state"] == "ready"
