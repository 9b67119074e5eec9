"""What a test with transactions of its own leaves behind is deleted, rather than every table emptied and set up anew.

Django's ``flush`` truncates all tables and announces a migration after it, which takes half a second where most tests
have written a handful of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from django.db import connection
from django.test import TransactionTestCase

#: Made by migrations, and changed by no test.
_KEPT = frozenset({"django_content_type", "auth_permission"})
#: A table with more than this is truncated, so that nothing has to read past what was deleted from it.
_LARGE_BYTES = 1 << 20


@pytest.fixture(scope="session", autouse=True)
def rows_deleted_after_tests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", _rows_delete)
        yield


_flush = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]


def _rows_delete(test: TransactionTestCase) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('is_superuser')")
        if cursor.fetchone() != ("on",):
            # Of a database that was named by DB_HOST.
            _flush(test)
            return
        cursor.execute(_not_empty())
        found = cursor.fetchall()
        if not found:
            return
        large = [table for table, size in found if size > _LARGE_BYTES]
        statements = [f'DELETE FROM "{table}"' for table, size in found if size <= _LARGE_BYTES]
        if large:
            statements.insert(0, f"TRUNCATE {', '.join(large)} CASCADE")
        # Foreign keys are not looked at: all that could be pointed to goes as well.
        cursor.execute(f"BEGIN; SET LOCAL session_replication_role = replica; {'; '.join(statements)}; COMMIT")


@cache
def _not_empty() -> str:
    """A query for the tables that have rows, and how large they are."""
    tables = sorted(set(connection.introspection.django_table_names(only_existing=True)) - _KEPT)
    return " UNION ALL ".join(
        f"SELECT '{table}', pg_relation_size('\"{table}\"') WHERE EXISTS (SELECT 1 FROM \"{table}\")"
        for table in tables
    )
