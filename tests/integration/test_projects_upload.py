"""A git bundle comes in through a file, up to its cap, from somebody who may send it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from apps.projects.uploads import upload_limit, upload_limit_for
from tests.api import CheckedClient, client_for, project_make, user_make
from tests.repositories import bundle_make, repository_make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def uploads(settings: Any, tmp_path: Path) -> Path:
    settings.ARCHON_HOME = tmp_path / "home"
    folder = tmp_path / "uploads"
    folder.mkdir()
    settings.FILE_UPLOAD_TEMP_DIR = str(folder)
    return folder


def _put(client: CheckedClient, address: str, body: bytes, **extra: Any) -> Any:
    return client.generic("PUT", address, body, content_type="application/octet-stream", **extra)  # type: ignore[arg-type]


def test_bundle_becomes_the_repository(tmp_path: Path, uploads: Path) -> None:
    commit = repository_make(tmp_path / "source", {"a.txt": "a"}, branch="work")
    user = user_make()
    address = f"/api/projects/{project_make(owner=user).id}/repository/"
    response = _put(client_for(user), address, bundle_make(tmp_path / "source", tmp_path / "all.bundle"))
    assert response.status_code == 200, response.content
    project = response.json()
    assert (project["repository_state"], project["default_branch"], project["head_commit"]) == ("ready", "work", commit)
    assert list(uploads.iterdir()) == []


def test_branch_to_work_on(tmp_path: Path) -> None:
    repository_make(tmp_path / "source", {"a.txt": "a"})
    user = user_make()
    address = f"/api/projects/{project_make(owner=user).id}/repository/"
    body = bundle_make(tmp_path / "source", tmp_path / "all.bundle")
    assert _put(client_for(user), f"{address}?branch=main", body).json()["default_branch"] == "main"
    assert _put(client_for(user), f"{address}?branch=missing", body).status_code == 400


@pytest.mark.parametrize("body", [b"", b"not a bundle", b"# v2 git bundle\n", b"# v2 git bundle\n\nPACK"])
def test_what_is_no_bundle(body: bytes, uploads: Path) -> None:
    user = user_make()
    address = f"/api/projects/{project_make(owner=user).id}/repository/"
    assert _put(client_for(user), address, body).status_code == 400
    assert client_for(user).get(address.removesuffix("repository/")).json()["repository_state"] == "empty"
    assert list(uploads.iterdir()) == []


def test_body_over_the_cap(uploads: Path) -> None:
    user = user_make()
    address = f"/api/projects/{project_make(owner=user).id}/repository/"
    with override_settings(ARCHON_UPLOAD_LIMIT_MB=1):
        assert _put(client_for(user), address, b"x" * (1024 * 1024 + 1)).status_code == 413
    assert list(uploads.iterdir()) == []


def test_other_media_types() -> None:
    user = user_make()
    address = f"/api/projects/{project_make(owner=user).id}/repository/"
    response = client_for(user).put(address, {"bundle": "x"}, format="json")
    assert response.status_code == 415


def _asgi_limit(path: str, *, method: str = "PUT", authorization: str = "") -> int | None:
    headers = [(b"authorization", authorization.encode())] if authorization else []
    return asyncio.run(upload_limit_for({"method": method, "path": path, "headers": headers}))


def test_only_who_is_signed_in_may_send_more_than_others() -> None:
    user = user_make()
    path = f"/api/projects/{project_make(owner=user).id}/repository/"
    client = client_for(user)
    authorization = client._credentials["HTTP_AUTHORIZATION"]  # type: ignore[attr-defined]
    assert _asgi_limit(path, authorization=authorization) == upload_limit()
    for refused in ("", "Bearer", "Bearer nonsense", "Bearer archon_nonsense", "Basic eDp5", authorization + "x"):
        assert _asgi_limit(path, authorization=refused) is None
    assert _asgi_limit(path, method="POST", authorization=authorization) is None
    assert _asgi_limit("/api/projects/", authorization=authorization) is None


class _Upload:
    """A PUT through the ASGI application, whose chunks are made while they are read."""

    def __init__(self, path: str, chunks: Iterable[bytes], headers: Mapping[str, str]) -> None:
        self.chunks_read = 0
        self._chunks = iter(chunks)
        self._ended = False
        self._sent: list[dict[str, Any]] = []
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "PUT",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [
                (name.encode(), value.encode())
                for name, value in {"host": "localhost", "content-type": "application/octet-stream", **headers}.items()
            ],
        }

    async def _receive(self) -> dict[str, Any]:
        chunk = next(self._chunks, None)
        if chunk is not None:
            self.chunks_read += 1
            return {"type": "http.request", "body": chunk, "more_body": True}
        if not self._ended:
            self._ended = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: Any) -> None:
        self._sent.append(message)

    def status(self) -> int:
        from config.asgi import http_application

        asyncio.run(http_application(self._scope, self._receive, self._send))
        return int(self._sent[0]["status"])

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._sent[1]["body"])
        return document


def _megabytes(count: int) -> Iterator[bytes]:
    return (b"x" * 1024 * 1024 for _ in range(count))


def test_stranger_cannot_fill_the_disk() -> None:
    path = f"/api/projects/{project_make(owner=user_make()).id}/repository/"
    upload = _Upload(path, _megabytes(100), {"transfer-encoding": "chunked"})
    assert (upload.status(), upload.document()["code"]) == (413, "too_large")
    assert upload.chunks_read <= 4, "cut off while it came"


def test_chunked_upload_without_a_length(tmp_path: Path) -> None:
    commit = repository_make(tmp_path / "source", {"a.txt": "a"})
    body = bundle_make(tmp_path / "source", tmp_path / "all.bundle")
    user = user_make()
    path = f"/api/projects/{project_make(owner=user).id}/repository/"
    headers = {"transfer-encoding": "chunked", "authorization": client_for(user)._credentials["HTTP_AUTHORIZATION"]}  # type: ignore[attr-defined]
    upload = _Upload(path, [body[:10], body[10:]], headers)
    assert (upload.status(), upload.document()["head_commit"]) == (200, commit)


@pytest.mark.parametrize("declared", ["5", "20"])
def test_another_length_than_was_declared(declared: str, uploads: Path) -> None:
    user = user_make()
    path = f"/api/projects/{project_make(owner=user).id}/repository/"
    headers = {"content-length": declared, "authorization": client_for(user)._credentials["HTTP_AUTHORIZATION"]}  # type: ignore[attr-defined]
    upload = _Upload(path, [b"x" * 10], headers)
    assert upload.status() == 400
    assert declared in upload.document()["detail"]
    assert list(uploads.iterdir()) == []
