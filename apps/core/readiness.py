"""What this server needs, part by part, and whether it is there now."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

import redis
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from apps.core.vectors import vectors_status
from apps.core.worker_presence import SEEN_SECONDS, worker_seen_age
from integrations.cache.connection import redis_client

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One need; ``required`` says whether the server is unready without it."""

    name: str
    ok: bool
    detail: str
    required: bool = True


@dataclass(frozen=True)
class Readiness:
    parts: tuple[Part, ...]

    @property
    def ready(self) -> bool:
        return all(part.ok for part in self.parts if part.required)


def readiness_get() -> Readiness:
    """Look at every part now; each look is bounded by its client's timeout of a few seconds."""
    return Readiness((*_database_parts(), *_redis_parts()))


def _database_parts() -> tuple[Part, ...]:
    try:
        connection.ensure_connection()
        pending = _migrations_pending()
        vectors = vectors_status()
    except DatabaseError as error:
        # The text may name hosts and roles, and this report is public: it goes to the log alone.
        logger.warning("not ready, database: %s", error)
        return (
            Part("database", False, "unreachable; look at DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD"),
            Part("migrations", False, "unknown while the database is unreachable"),
            Part("vectors", False, "unavailable: the database is unreachable", required=False),
        )
    return (
        Part("database", True, "reachable"),
        Part("migrations", not pending, f"{pending} to do; run `python manage.py migrate`" if pending else "applied"),
        Part("vectors", vectors.available, vectors.detail, required=False),
    )


def _migrations_pending() -> int:
    applied = MigrationRecorder(connection).applied_migrations()
    return len(_migrations_on_disk() - set(applied))


@cache
def _migrations_on_disk() -> frozenset[tuple[str, str]]:
    # Read once: this process runs the code that it was started with.
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)


def _redis_parts() -> tuple[Part, ...]:
    try:
        redis_client().ping()
        age = worker_seen_age()
    except (redis.RedisError, OSError) as error:
        logger.warning("not ready, redis: %s", error)
        return (
            Part("redis", False, "unreachable; look at REDIS_URL"),
            Part("worker", False, "unknown while Redis is unreachable"),
        )
    if age is None:
        worker = Part(
            "worker",
            False,
            f"no job has run in the last {SEEN_SECONDS} s; start `celery -A celery_app worker` and `… beat`",
        )
    else:
        worker = Part("worker", True, f"ran a job {age:.0f} s ago")
    return (Part("redis", True, "reachable"), worker)
