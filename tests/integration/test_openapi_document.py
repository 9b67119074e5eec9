"""The OpenAPI document is whole: made without a warning, and complete by the specification's list."""

from __future__ import annotations

import io
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.api import openapi_document

ROOT = Path(__file__).resolve().parents[2]


def test_made_without_warnings() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=io.StringIO())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/api/auth/register/"),
        ("post", "/api/auth/login/"),
        ("post", "/api/auth/refresh/"),
        ("get", "/api/auth/me/"),
        ("get", "/api/projects/"),
        ("post", "/api/projects/"),
        ("get", "/api/projects/{project_id}/"),
        ("put", "/api/projects/{project_id}/"),
        ("delete", "/api/projects/{project_id}/"),
        ("get", "/api/planning/plans/"),
        ("get", "/api/planning/features/"),
        ("post", "/api/planning/features/"),
        ("get", "/api/planning/tasks/"),
    ],
)
def test_specified_operations_are_there(method: str, path: str) -> None:
    assert method in openapi_document()["paths"][path]


def test_every_operation_promises_problem_documents() -> None:
    for path, operations in openapi_document()["paths"].items():
        for method, operation in operations.items():
            assert "application/problem+json" in operation["responses"]["default"]["content"], f"{method} {path}"
            assert operation["operationId"]


def test_bearer_is_asked_for_wherever_it_is_needed() -> None:
    document = openapi_document()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["paths"]["/api/auth/me/"]["get"]["security"] == [{"bearer": []}]
    assert document["paths"]["/api/auth/login/"]["post"]["security"] == [{}]


def test_production_settings_pass_djangos_own_check() -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings.prod",
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(60),
        "JWT_SECRET_KEY": secrets.token_urlsafe(60),
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", ["DJANGO_SECRET_KEY", "JWT_SECRET_KEY"])
def test_production_refuses_to_start_without_its_secrets(missing: str) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings.prod",
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(60),
        "JWT_SECRET_KEY": secrets.token_urlsafe(60),
        missing: "your-secret",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert missing in done.stderr


def test_api_process_loads_no_model_library() -> None:
    program = (
        "import sys, config.asgi, config.urls; "
        "print(*(name for name in ('langchain_core', 'langgraph', 'openai', 'torch') if name in sys.modules))"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings.dev"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
