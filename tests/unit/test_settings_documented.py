"""Every variable that the settings read is in `.env.example` and in the reference, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

import environ
import pytest

ROOT = Path(__file__).resolve().parents[2]

#: The specification's own, by its names.
SPECIFIED = [
    "DJANGO_SECRET_KEY",
    "DJANGO_DEBUG",
    "DJANGO_ALLOWED_HOSTS",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_HOST",
    "DB_PORT",
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "SUPABASE_URL",
    "SUPABASE_KEY",
    "SUPABASE_SERVICE_KEY",
    "PINECONE_API_KEY",
    "PINECONE_ENVIRONMENT",
    "PINECONE_INDEX_NAME",
    "GEMINI_API_KEY",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "LANGCHAIN_API_KEY",
    "LANGCHAIN_TRACING_V2",
    "LANGCHAIN_PROJECT",
    "JWT_SECRET_KEY",
    "JWT_ALGORITHM",
    "ACCESS_TOKEN_EXPIRE_MINUTES",
    "REFRESH_TOKEN_EXPIRE_DAYS",
    "CORS_ALLOWED_ORIGINS",
]


def _read_by_settings() -> set[str]:
    sources = [path.read_text() for path in sorted((ROOT / "config" / "settings").glob("*.py"))]
    return {name for source in sources for name in re.findall(r'\benv(?:\.\w+)?\(\s*"([A-Z0-9_]+)"', source)}


def _in_example() -> set[str]:
    return set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def _in_reference() -> set[str]:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    return set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", page, re.MULTILINE))


def test_example_has_exactly_what_the_settings_read() -> None:
    assert _in_example() == _read_by_settings()


def test_reference_has_exactly_what_the_settings_read() -> None:
    assert _in_reference() == _read_by_settings()


def test_specified_variables_are_read() -> None:
    assert set(SPECIFIED) <= _read_by_settings()


def test_example_parses_and_leaves_services_and_secrets_to_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, str] = {}
    monkeypatch.setattr("environ.Env.ENVIRON", values)
    environ.Env.read_env(ROOT / ".env.example")
    assert values["JWT_ALGORITHM"] == "HS256"
    assert not {"DB_HOST", "REDIS_URL", "DJANGO_SECRET_KEY", "JWT_SECRET_KEY", "ARCHON_HOME"} & set(values)
    assert all(values.values()), "a variable that is set to nothing is not unset"
