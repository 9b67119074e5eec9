"""Whether the database can store vectors: PostgreSQL works without pgvector, and then search by meaning is off."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection


@dataclass(frozen=True)
class VectorsStatus:
    """``detail`` names pgvector's version, or says why it is unavailable and what to do."""

    available: bool
    detail: str


def vectors_status() -> VectorsStatus:
    """Ask the database; raises django.db.Error when it cannot be reached."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT installed_version, default_version FROM pg_available_extensions WHERE name = 'vector'")
        row = cursor.fetchone()
    if row is None:
        return VectorsStatus(
            False, "unavailable: this PostgreSQL has no pgvector; install it, then run CREATE EXTENSION vector"
        )
    if row[0] is None:
        return VectorsStatus(
            False, f"unavailable: pgvector {row[1]} is not enabled; run CREATE EXTENSION vector as a superuser"
        )
    return VectorsStatus(True, f"pgvector {row[0]}")
