"""Health, readiness, and documentation that needs no other host."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings

from apps.core.readiness import readiness_get
from apps.core.tasks import heartbeat
from apps.core.vectors import vectors_status
from integrations.cache.connection import redis_client, redis_client_forget
from tests.api import client_make


@pytest.fixture
def no_worker() -> Iterator[None]:
    redis_client().delete("archon:worker:seen")
    yield
    redis_client().delete("archon:worker:seen")


def _parts(response: Any) -> dict[str, bool]:
    return {part["name"]: part["ok"] for part in response.json()["parts"]}


def test_health_needs_no_database() -> None:
    assert client_make().get("/api/health/").json() == {"status": "ok"}


@pytest.mark.django_db
def test_ready_once_a_worker_has_run_a_job(no_worker: None) -> None:
    before = client_make().get("/api/ready/")
    assert before.status_code == 503
    assert _parts(before) == {"database": True, "migrations": True, "vectors": True, "redis": True, "worker": False}
    heartbeat()
    after = client_make().get("/api/ready/")
    assert (after.status_code, after.json()["ready"]) == (200, True)


@pytest.mark.django_db
def test_unready_while_migrations_are_missing(no_worker: None) -> None:
    heartbeat()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'core'")
    response = client_make().get("/api/ready/")
    assert response.status_code == 503
    assert _parts(response)["migrations"] is False
    assert "migrate" in response.content.decode()


@pytest.mark.django_db
def test_unready_without_redis(settings: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings.REDIS_URL = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
    redis_client_forget()
    try:
        response = client_make().get("/api/ready/")
    finally:
        redis_client_forget()
    assert response.status_code == 503
    assert (_parts(response)["redis"], _parts(response)["worker"]) == (False, False)


@pytest.mark.django_db
def test_vectors_say_why_they_are_unavailable() -> None:
    assert vectors_status().available
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION vector CASCADE")
    status = vectors_status()
    assert not status.available
    assert "CREATE EXTENSION" in status.detail
    vectors = next(part for part in readiness_get().parts if part.name == "vectors")
    assert (vectors.ok, vectors.required) == (False, False)


@pytest.mark.django_db(transaction=True)
def test_migrate_works_for_a_role_that_may_not_enable_vectors() -> None:
    role = f"plain_{uuid.uuid4().hex}"
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION vector CASCADE")
        cursor.execute("DELETE FROM django_migrations WHERE app = 'core'")
        cursor.execute(f"CREATE ROLE {role}")
        cursor.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        cursor.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
        cursor.execute(f"SET ROLE {role}")
    try:
        call_command("migrate", "core", verbosity=0)
        assert not vectors_status().available
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
            cursor.execute("CREATE EXTENSION vector")
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("page", ["/api/docs/", "/api/redoc/"])
def test_documentation_pages_load_from_here_alone(page: str, debug: bool) -> None:
    with override_settings(DEBUG=debug):
        response = Client().get(page)
        text = response.content.decode()
        links = re.findall(r"""(?:src|href|spec-url)=["']([^"']+)""", text)
        assert links
        assert not re.search(r"""["'(]\s*(https?:)?//""", text), "the page names another host"
        for link in links:
            answer = Client().get(link.replace("&amp;", "&"))
            assert answer.status_code == 200, link
            expected = "javascript" if ".js" in link or "script=" in link else ""
            assert expected in answer.headers["Content-Type"]
            assert len(answer.content) > 100
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "<script>" not in text.replace("\n", ""), "inline scripts are refused by the policy"


def test_schema_as_yaml_and_as_json() -> None:
    assert Client().get("/api/schema/").content.startswith(b"openapi: 3.1")
    for response in (
        Client().get("/api/schema/", headers={"accept": "application/json"}),
        Client().get("/api/schema/?format=json"),
    ):
        assert response.json()["info"]["title"] == "Archon"


@pytest.mark.parametrize(
    "path", ["/static/", "/static/../config/settings/base.py", "/static/%2e%2e/manage.py", "/static//etc/passwd"]
)
def test_static_files_are_those_of_the_apps_alone(path: str) -> None:
    assert Client().get(path).status_code in (400, 404)


def test_security_headers() -> None:
    headers = Client().get("/api/health/").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
