"""Reading packed values from PostgreSQL as they are: Django's cursor reads text, which is twice as long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from django.db import connection


def rows_binary(statement: str, parameters: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement, sent in binary."""
    connection.ensure_connection()
    raw = connection.connection
    assert raw is not None
    with psycopg.Cursor(raw) as cursor:
        cursor.execute(statement, parameters, binary=True)
        yield from cursor
