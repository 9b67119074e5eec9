"""Every error is a problem document, whoever makes it, and names its request."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client, override_settings
from django.urls import path
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.errors import Conflict, LimitReached
from config.urls import urlpatterns as real_urlpatterns
from tests.api import client_for, client_make, project_make, user_make

pytestmark = pytest.mark.django_db


class _RaisingView(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    error: Exception = RuntimeError("the password is hunter2")

    def get(self, request: Request) -> Response:
        raise self.error


urlpatterns = [
    path("api/raise/bug/", _RaisingView.as_view()),
    path("api/raise/conflict/", _RaisingView.as_view(error=Conflict("Busy.", next_step="wait", state="running"))),
    path("api/raise/limit/", _RaisingView.as_view(error=LimitReached("Enough.", retry_after=6.2))),
    path("api/raise/database/", _RaisingView.as_view(error=OperationalError("host db.internal is down"))),
    *real_urlpatterns,
]


def _problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"].endswith(code)
    assert document["request_id"] == response.headers["X-Request-ID"] != ""
    assert document["title"]
    assert document["detail"]
    return document


@pytest.mark.parametrize("debug", [True, False])
def test_unknown_address(debug: bool) -> None:
    with override_settings(DEBUG=debug):
        _problem(Client().get("/api/nowhere/"), 404, "not_found")


def test_address_without_its_slash() -> None:
    response = Client().get("/api/projects?limit=3")
    assert (response.status_code, response.headers["Location"]) == (308, "/api/projects/?limit=3")
    problem = _problem(Client().post("/api/projects", {}), 404, "not_found")
    assert "/api/projects/" in problem["next_step"]


@pytest.mark.parametrize("debug", [True, False])
def test_foreign_host(debug: bool) -> None:
    with override_settings(DEBUG=debug, ALLOWED_HOSTS=["archon.example"]):
        _problem(Client().get("/api/health/", headers={"host": "evil.example"}), 400, "invalid_input")


def test_no_credentials() -> None:
    response = client_make().get("/api/projects/")
    problem = _problem(response, 401, "not_authenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert "Authorization" in problem["next_step"]


def test_wrong_method() -> None:
    response = client_for(user_make()).put("/api/projects/", {})
    _problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_wrong_media_type() -> None:
    response = client_for(user_make()).generic("POST", "/api/projects/", b"<x/>", content_type="text/xml")  # type: ignore[arg-type]
    _problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"name": NaN}', b"[" * 200_000], ids=["cut", "bytes", "NaN", "deep"])
def test_malformed_json(body: bytes) -> None:
    response = client_for(user_make()).generic("POST", "/api/projects/", body, content_type="application/json")  # type: ignore[arg-type]
    _problem(response, 400, "malformed_request")


@pytest.mark.parametrize("body", [[], "text", 7, None])
def test_json_that_is_no_object(body: object) -> None:
    import json

    response = client_for(user_make()).generic(
        "POST", "/api/projects/", json.dumps(body).encode(), content_type="application/json"  # type: ignore[arg-type]
    )
    _problem(response, 400, "invalid_input")


@override_settings(ARCHON_REQUEST_LIMIT_KB=1)
def test_large_json() -> None:
    response = client_for(user_make()).post("/api/projects/", {"name": "x" * 2000})
    _problem(response, 413, "too_large")


def test_invalid_fields_are_named() -> None:
    response = client_for(user_make()).post("/api/projects/", {"name": "", "check_commands": ["make", ""]})
    problem = _problem(response, 400, "invalid_input")
    assert set(problem["errors"]) == {"name", "check_commands.1"}
    assert all(isinstance(message, str) for messages in problem["errors"].values() for message in messages)


@pytest.mark.parametrize("value", ["a\x00b", "a\ud800b"], ids=["NUL", "surrogate"])
def test_text_that_the_database_cannot_hold(value: str) -> None:
    response = client_for(user_make()).generic(
        "POST",
        "/api/projects/",
        ('{"name": "' + value.encode("unicode_escape").decode().replace("\\x00", "\\u0000") + '"}').encode(),  # type: ignore[arg-type]
        content_type="application/json",
    )
    assert "name" in _problem(response, 400, "invalid_input")["errors"]


def test_refusal_quotes_nothing_that_cannot_be_encoded() -> None:
    owner = user_make()
    address = f"/api/projects/{project_make(owner=owner).id}/members/"
    body = b'{"email": "a@example.org", "role": "\\ud800"}'
    response = client_for(owner).generic("POST", address, body, content_type="application/json")  # type: ignore[arg-type]
    assert "role" in _problem(response, 400, "invalid_input")["errors"]


def test_offset_beyond_all_numbers() -> None:
    response = client_for(user_make()).get("/api/projects/", {"offset": "9" * 40, "limit": "9" * 40})
    assert response.json()["results"] == []


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize("debug", [True, False])
def test_bug_tells_nothing_and_is_logged(debug: bool, caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(DEBUG=debug), caplog.at_level(logging.ERROR):
        response = Client(raise_request_exception=False).get("/api/raise/bug/")
    _problem(response, 500, "server_error")
    assert b"hunter2" not in response.content
    assert "hunter2" in caplog.text


@override_settings(ROOT_URLCONF=__name__)
def test_application_errors() -> None:
    problem = _problem(Client().get("/api/raise/conflict/"), 409, "conflict")
    assert (problem["detail"], problem["next_step"], problem["state"]) == ("Busy.", "wait", "running")
    response = Client().get("/api/raise/limit/")
    _problem(response, 429, "limit_reached")
    assert response.headers["Retry-After"] == "7"


@override_settings(ROOT_URLCONF=__name__)
def test_database_away() -> None:
    response = Client().get("/api/raise/database/")
    _problem(response, 503, "unavailable")
    assert b"db.internal" not in response.content
    assert response.headers["Retry-After"]


@pytest.mark.parametrize(
    ("offered", "kept"), [("abc-123", True), ("x" * 65, False), ("a b", False), ("é", False), ("", False)]
)
def test_request_id(offered: str, kept: bool) -> None:
    returned = Client().get("/api/health/", headers={"X-Request-ID": offered}).headers["X-Request-ID"]
    assert (returned == offered) is kept
    assert returned


def test_request_log_has_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    user = user_make()
    client = client_for(user)
    with caplog.at_level(logging.INFO, logger="archon.request"):
        client.get("/api/auth/me/?ticket=canary-in-query", headers={"X-Request-ID": "trace-1"})
        client_make().post("/api/auth/login/", {"email": user.email, "password": "canary-in-body"})
    first, second = caplog.records
    assert (first.method, first.path, first.status) == ("GET", "/api/auth/me/", 200)  # type: ignore[attr-defined]
    assert first.user_id == str(user.id)  # type: ignore[attr-defined]
    assert (second.status, second.user_id) == (401, None)  # type: ignore[attr-defined]
    assert "canary" not in repr([record.__dict__ for record in caplog.records if record.name == "archon.request"])


def test_cors_is_for_the_named_origins_alone() -> None:
    with override_settings(CORS_ALLOWED_ORIGINS=["http://localhost:3000"]):
        named = Client().get("/api/health/", headers={"Origin": "http://localhost:3000"})
        other = Client().get("/api/health/", headers={"Origin": "http://evil.example"})
        refused = Client().get("/api/projects/", headers={"Origin": "http://localhost:3000"})
    assert named.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert "Access-Control-Allow-Origin" not in other.headers
    assert refused.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
