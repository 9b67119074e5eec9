"""The doctor's look at the database and the queue: connect, and ask what they are."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import redis

from cli.doctor_finding import Finding, State
from config.bootstrap import home_path, services_prepare
from integrations.embedded import ServicesUnavailable
from integrations.embedded.attach import services_settle

_CONNECT_SECONDS = 5
_OLDEST_POSTGRES = 14
_OLDEST_REDIS = 7


def services() -> Iterator[Finding]:
    """What is configured is asked; what isn't is started for the look and let go of again."""
    configured = {"database": bool(os.environ.get("DB_HOST")), "redis": bool(os.environ.get("REDIS_URL"))}
    try:
        attached = services_prepare()
    except ServicesUnavailable as error:
        yield Finding("services", State.PROBLEM, error.message, error.next_step)
        return
    try:
        yield from _database("configured" if configured["database"] else "embedded")
        yield from _redis("configured" if configured["redis"] else "embedded")
    finally:
        if attached is not None:
            attached.detach()
            services_settle(home_path())


def _database(kind: str) -> Iterator[Finding]:
    host, port = os.environ.get("DB_HOST", ""), os.environ.get("DB_PORT") or "5432"
    where = f"{kind}, {host}:{port}"
    try:
        with psycopg.connect(
            host=host,
            port=port,
            user=os.environ.get("DB_USER") or "postgres",
            password=os.environ.get("DB_PASSWORD", ""),
            dbname=os.environ.get("DB_NAME") or "archon",
            connect_timeout=_CONNECT_SECONDS,
        ) as connection:
            number = connection.info.server_version
            vector = _pgvector(connection)
    except psycopg.Error as error:
        advice = "look at DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD, and whether the server runs"
        yield Finding("database", State.PROBLEM, f"{where}: {type(error).__name__}", advice)
        return
    version = f"PostgreSQL {number // 10000}.{number % 10000}"
    old = number // 10000 < _OLDEST_POSTGRES
    advice = f"PostgreSQL {_OLDEST_POSTGRES} or newer is needed" if old else ""
    yield Finding("database", State.PROBLEM if old else State.OK, f"{version} ({where})", advice)
    if vector is None:
        advice = "install pgvector on the server for semantic search; everything else works without"
        yield Finding("pgvector", State.MISSING, "not available", advice)
    else:
        yield Finding("pgvector", State.OK, vector)


def _pgvector(connection: psycopg.Connection) -> str | None:
    row = connection.execute(
        "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'vector'"
    ).fetchone()
    if row is None:
        return None
    return str(row[1]) if row[1] else f"{row[0]}, made by ./archon up or manage.py migrate"


def _redis(kind: str) -> Iterator[Finding]:
    client = redis.Redis.from_url(
        os.environ["REDIS_URL"], socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_CONNECT_SECONDS
    )
    address = client.get_connection_kwargs()
    where = f"{kind}, {address.get('host', 'a socket')}:{address.get('port', '')}"
    try:
        information = client.info("server")
    except (redis.RedisError, OSError) as error:
        advice = "look at REDIS_URL, and whether the server runs"
        yield Finding("redis", State.PROBLEM, f"{where}: {type(error).__name__}", advice)
        return
    finally:
        client.close()
    assert isinstance(information, dict)
    name = "Valkey" if "valkey_version" in information else "Redis"
    version = str(information.get("valkey_version") or information["redis_version"])
    old = int(version.split(".")[0]) < _OLDEST_REDIS
    advice = f"Redis {_OLDEST_REDIS} or newer is needed" if old else ""
    yield Finding("redis", State.PROBLEM if old else State.OK, f"{name} {version} ({where})", advice)
