"""Projects belong to their members: what each role may do, and that nobody else knows of them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from apps.core.errors import NotFound, PermissionDenied
from apps.projects.models import Membership, Project
from apps.projects.repository import repository_path
from apps.projects.selectors import project_get_for_user
from tests.api import client_for, project_make, user_make
from tests.repositories import repository_make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def home(settings: Any, tmp_path: Path) -> Path:
    settings.ARCHON_HOME = tmp_path / "home"
    settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path / "allowed")]
    return tmp_path


def test_create_read_replace_update_delete() -> None:
    client = client_for(user_make())
    made = client.post("/api/projects/", {"name": "one", "check_commands": ["make test"]})
    assert made.status_code == 201
    assert made.json() | {"id": "", "created_at": "", "updated_at": ""} == {
        "id": "",
        "name": "one",
        "description": "",
        "repository_state": "empty",
        "repository_notices": [],
        "source": None,
        "default_branch": "",
        "head_commit": "",
        "setup_command": "",
        "check_commands": ["make test"],
        "network_hosts": [],
        "subfolder": "",
        "autonomy": "",
        "review": "",
        "agents": {},
        "lanes": None,
        "instructions": "",
        "role": "owner",
        "created_at": "",
        "updated_at": "",
    }
    address = f"/api/projects/{made.json()['id']}/"
    assert client.get(address).json() == made.json()
    assert client.patch(address, {"description": "d"}).json()["check_commands"] == ["make test"]
    replaced = client.put(address, {"name": "two"}).json()
    assert (replaced["name"], replaced["description"], replaced["check_commands"]) == ("two", "", [])
    assert client.put(address, {"description": "no name"}).status_code == 400
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


def test_hosts_and_subfolder_are_checked_and_kept_in_one_form() -> None:
    client = client_for(user_make())
    made = client.post(
        "/api/projects/",
        {
            "name": "one",
            "network_hosts": ["Docs.Python.org", "*.example.org:8443", "docs.python.org"],
            "subfolder": "./a//b/",
        },
    ).json()
    assert (made["network_hosts"], made["subfolder"]) == (["docs.python.org", "*.example.org:8443"], "a/b")
    address = f"/api/projects/{made['id']}/"
    for wrong in ("*", "*.org", "https://a.org/", "a.org:0", "a.org:x", "a b", "", "a.org/path", "u@a.org"):
        assert client.patch(address, {"network_hosts": [wrong]}).status_code == 400, wrong
    for wrong in ("../a", "a/../../b", "/etc", "a/.git/hooks", "a\\b", "a\nb"):
        assert client.patch(address, {"subfolder": wrong}).status_code == 400, wrong
    assert client.get(address).json() == made
    assert client.patch(address, {"network_hosts": [], "subfolder": ""}).json()["network_hosts"] == []


def test_list_has_the_users_projects_alone_in_pages() -> None:
    mine, other = user_make(), user_make()
    for number in range(3):
        project_make(owner=mine, name=f"mine {number}")
    shared = project_make(owner=other, name="shared", viewer=mine)
    project_make(owner=other, name="private")
    client = client_for(mine)
    first = client.get("/api/projects/", {"limit": 3}).json()
    assert (first["count"], len(first["results"])) == (4, 3)
    assert first["results"][0] == client.get(f"/api/projects/{shared.id}/").json()
    assert first["results"][0]["role"] == "viewer", "the role is the asking user's, not another member's"
    second = client.get(first["next"].removeprefix("http://testserver")).json()
    assert [project["name"] for project in second["results"]] == ["mine 0"]


@pytest.mark.parametrize(
    ("role", "read", "write", "manage"),
    [("owner", 200, 200, 204), ("member", 200, 200, 403), ("viewer", 200, 403, 403), (None, 404, 404, 404)],
)
def test_what_each_role_may_do(role: str | None, read: int, write: int, manage: int) -> None:
    user = user_make()
    project = project_make(owner=user_make())
    if role is not None:
        project.memberships.create(user=user, role=role)
    client, address = client_for(user), f"/api/projects/{project.id}/"
    stranger = user_make()
    assert client.get(address).status_code == read
    assert client.get(f"{address}members/").status_code == read
    assert client.patch(address, {"name": "x"}).status_code == write
    assert client.put(address, {"name": "x"}).status_code == write
    upload = client.generic("PUT", f"{address}repository/", b"", content_type="application/octet-stream")  # type: ignore[arg-type]
    assert upload.status_code == (400 if write == 200 else write)
    added = client.post(f"{address}members/", {"email": stranger.email})
    assert added.status_code == (201 if manage == 204 else manage)
    changed = client.patch(f"{address}members/{project.memberships.earliest('created_at').user_id}/", {"role": "owner"})
    assert changed.status_code == (200 if manage == 204 else manage)
    assert client.delete(address).status_code == manage


def test_selector_is_the_rule() -> None:
    owner, viewer = user_make(), user_make()
    project = project_make(owner=owner, viewer=viewer)
    assert project_get_for_user(user=owner, project_id=project.id, write=True, manage=True) == project
    assert project_get_for_user(user=viewer, project_id=project.id) == project
    with pytest.raises(PermissionDenied):
        project_get_for_user(user=viewer, project_id=project.id, write=True)
    with pytest.raises(NotFound):
        project_get_for_user(user=user_make(), project_id=project.id)
    with pytest.raises(NotFound):
        project_get_for_user(user=owner, project_id=uuid.uuid4())


def test_members_come_change_and_go() -> None:
    owner, other = user_make(), user_make()
    project = project_make(owner=owner)
    client, address = client_for(owner), f"/api/projects/{project.id}/members/"
    added = client.post(address, {"email": other.email.upper(), "role": "viewer"})
    assert (added.status_code, added.json()["role"]) == (201, "viewer")
    assert client.post(address, {"email": other.email}).status_code == 409
    assert client.post(address, {"email": "nobody@example.org"}).status_code == 400
    assert client.post(address, {"email": other.email, "role": "king"}).status_code == 400
    assert client.patch(f"{address}{other.id}/", {"role": "member"}).json()["role"] == "member"
    assert [row["email"] for row in client.get(address).json()["results"]] == [owner.email, other.email]
    assert client_for(other).delete(f"{address}{owner.id}/").status_code == 403
    assert client_for(other).delete(f"{address}{other.id}/").status_code == 204, "anybody may leave"
    assert client.delete(f"{address}{other.id}/").status_code == 404


def test_project_keeps_an_owner() -> None:
    owner = user_make()
    project = project_make(owner=owner)
    client, address = client_for(owner), f"/api/projects/{project.id}/members/{owner.id}/"
    assert client.delete(address).status_code == 409
    assert client.patch(address, {"role": "member"}).status_code == 409
    assert Membership.objects.get().role == "owner"


def test_database_refuses_unknown_states() -> None:
    project = project_make(owner=user_make())
    for changes in ({"repository_state": "half"}, {"repository_state": "ready", "default_branch": ""}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Project.objects.filter(id=project.id).update(**changes)
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.update(role="king")


def test_repository_from_a_path(home: Path) -> None:
    source = home / "allowed" / "sample"
    commit = repository_make(source, {"main.py": "print('hi')\n"}, branch="trunk")
    client = client_for(user_make())
    made = client.post("/api/projects/", {"name": "p", "repository_path": str(source)})
    assert made.status_code == 201, made.content
    project = made.json()
    assert (project["repository_state"], project["default_branch"], project["head_commit"]) == (
        "ready",
        "trunk",
        commit,
    )
    folder = repository_path(project_id=project["id"])
    assert folder.is_dir()
    assert client.delete(f"/api/projects/{project['id']}/").status_code == 204
    assert not folder.exists()
    assert (source / "main.py").exists(), "the user's own repository is left alone"


@pytest.mark.parametrize(
    "path", ["/etc", "allowed/../outside", "allowed/missing", "allowed/plain", "allowed/link", "\n"]
)
def test_paths_that_are_refused(home: Path, path: str) -> None:
    repository_make(home / "outside", {"secret": "x"})
    (home / "allowed" / "plain").mkdir(parents=True)
    (home / "allowed" / "link").symlink_to(home / "outside")
    client = client_for(user_make())
    response = client.post("/api/projects/", {"name": "p", "repository_path": str(home / path)})
    assert response.status_code == 400, response.content
    if "outside" in path or "link" in path or path == "/etc":
        assert "ARCHON_REPOSITORY_ROOTS" in response.json()["next_step"]
    assert not Project.objects.exists()
    assert list((home / "home" / "repositories").glob("*.git")) == []


def test_no_paths_at_all_unless_the_operator_names_roots(home: Path, settings: Any) -> None:
    settings.ARCHON_REPOSITORY_ROOTS = []
    repository_make(home / "allowed", {"a": "b"})
    response = client_for(user_make()).post("/api/projects/", {"name": "p", "repository_path": str(home / "allowed")})
    assert response.status_code == 400
    assert "ARCHON_REPOSITORY_ROOTS" in response.json()["next_step"]
