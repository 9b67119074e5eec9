"""Vectors in PostgreSQL, as halfvec: searched exactly within their namespace, which is what makes them right.

One approximate index over all projects finds next to nothing of a small one, without a word. So a search looks at every
vector of its namespace, and only a namespace that is too large for that gets an approximate index of its own, once it
was measured to find what an exact search does (:mod:`.pgvector_tuning`).

The table is made when it is first needed, since PostgreSQL works without pgvector, and no model of Django's has it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.utils import ProgrammingError

from apps.core.vectors import vectors_status
from apps.vector_store.errors import VectorIndexUnavailable
from apps.vector_store.models import VectorNamespace, VectorSpace
from apps.vector_store.types import Scored

from .namespaces import (
    dimension_check,
    ids_check,
    in_batches,
    limit_check,
    namespace_find,
    namespace_for,
    vectors_check,
)

if TYPE_CHECKING:
    from apps.vector_store.types import Vector

NAME = "pgvector"
TABLE = "vector_store_vector"
#: Vectors of one statement.
_BATCH = 5_000
#: Fewer than this go as parameters; more are copied, which is three times as fast.
_COPIED = 100
#: An approximate index takes some fifty vectors a second: before more than this it goes, and is built anew after them.
_MANY = 2_000
#: More candidates than this an approximate index is not asked for.
MAX_WIDTH = 1_000
_CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    namespace_id bigint NOT NULL,
    id varchar(64) COLLATE "C" NOT NULL,
    embedding halfvec NOT NULL,
    PRIMARY KEY (namespace_id, id)
);
-- In the row itself, where there is room: a search reads all of them.
ALTER TABLE {TABLE} ALTER COLUMN embedding SET STORAGE MAIN;
"""
_KEEP = "ON CONFLICT (namespace_id, id) DO UPDATE SET embedding = EXCLUDED.embedding"
_UPSERT = f"""
INSERT INTO {TABLE} (namespace_id, id, embedding)
SELECT %s, one.id, one.embedding::halfvec FROM unnest(%s::text[], %s::text[]) AS one (id, embedding)
 ORDER BY one.id
{_KEEP}
"""
_STAGE = "CREATE TEMPORARY TABLE staged_vector (id text NOT NULL, embedding halfvec NOT NULL) ON COMMIT DROP"
_UPSERT_STAGED = f"""
INSERT INTO {TABLE} (namespace_id, id, embedding)
SELECT %s, id, embedding FROM staged_vector ORDER BY id
{_KEEP}
"""
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)


class PgVectorIndex:
    """A :class:`~apps.vector_store.types.VectorIndex`. Stateless: what was committed is found."""

    def upsert(self, *, namespace: str, vectors: Sequence[tuple[str, Vector]]) -> None:
        if not vectors:
            return
        kept = vectors_check(vectors)
        row = namespace_for(name=namespace, index=NAME, dimension=len(vectors[0][1]))
        with _errors_told():
            table_ensure()
            if row.search_width is not None and len(kept) >= _MANY:
                index_drop(row)
            for batch in in_batches(kept.items(), _BATCH):
                _write(row, dict(batch))

    def delete(self, *, namespace: str, ids: Collection[str]) -> None:
        row = namespace_find(name=namespace, index=NAME)
        ids_check(ids)
        if row is None or not ids or not table_exists():
            return
        with connection.cursor() as cursor:
            for batch in in_batches(ids, _BATCH):
                cursor.execute(f"DELETE FROM {TABLE} WHERE namespace_id = %s AND id = ANY(%s)", [row.id, batch])

    def query(self, *, namespace: str, vector: Vector, limit: int, ids: Collection[str] | None = None) -> list[Scored]:
        limit_check(limit)
        row = namespace_find(name=namespace, index=NAME)
        if row is None or (ids is not None and not ids):
            return []
        dimension_check(row, len(vector))
        with _errors_told():
            if ids is None and row.search_width is not None and limit <= MAX_WIDTH // 2:
                return search_approximate(row, vector, limit, width=max(row.search_width, 2 * limit))
            return search_exact(row, vector, limit, ids)

    def missing(self, *, namespace: str, ids: Collection[str]) -> set[str]:
        row = namespace_find(name=namespace, index=NAME)
        if row is None or not ids:
            return set(ids)
        there: set[str] = set()
        table_ensure()
        with connection.cursor() as cursor:
            for batch in in_batches(ids, _BATCH):
                cursor.execute(f"SELECT id FROM {TABLE} WHERE namespace_id = %s AND id = ANY(%s)", [row.id, batch])
                there.update(found for (found,) in cursor.fetchall())
        return set(ids) - there

    def count(self, *, namespace: str) -> int:
        row = namespace_find(name=namespace, index=NAME)
        return 0 if row is None else rows_count(row)

    def drop(self, *, namespace: str) -> None:
        row = namespace_find(name=namespace, index=NAME)
        if row is None:
            return
        index_drop(row)
        if table_exists():
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {TABLE} WHERE namespace_id = %s", [row.id])


def table_exists() -> bool:
    with connection.cursor() as cursor:
        # An extension that was dropped takes its column along, and leaves the table.
        cursor.execute(
            "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped",
            [TABLE, "embedding"],
        )
        return cursor.fetchone() is not None


def table_ensure() -> None:
    """Make the table where it is missing. Raises VectorIndexUnavailable where PostgreSQL has no pgvector."""
    if table_exists():
        return
    status = vectors_status()
    if not status.available:
        raise VectorIndexUnavailable(
            f"vectors cannot be stored: {status.detail.removeprefix('unavailable: ')}",
            next_step="Text search works without. The database's administrator adds pgvector; then vectors fill in.",
        )
    with transaction.atomic(), connection.cursor() as cursor:
        # Two processes may be as quick: `IF NOT EXISTS` alone is no lock.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [TABLE])
        if not table_exists():
            # What is left of one that has lost its vectors tells of some that aren't there.
            cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
        cursor.execute(_CREATE)


def index_drop(row: VectorNamespace) -> None:
    """Have the namespace searched exactly from now on."""
    VectorNamespace.objects.filter(id=row.id).update(search_width=None, recall=None, measured_vectors=None)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX IF EXISTS {index_name(row)}")


def search_exact(row: VectorNamespace, vector: Vector, limit: int, ids: Collection[str] | None) -> list[Scored]:
    """By looking at every vector of the namespace, or at those of the ids."""
    among = "" if ids is None else "AND id = ANY(%s)"
    arguments: list[Any] = [vector_text(vector), row.id, *([] if ids is None else [list(ids)]), limit]
    with connection.cursor() as cursor:
        # The expression is not one that an approximate index has, so that none is used.
        cursor.execute(
            f"""
            SELECT id, -(embedding <#> asked.vector) FROM {TABLE}, (SELECT %s::halfvec AS vector) AS asked
             WHERE namespace_id = %s {among} ORDER BY embedding <#> asked.vector, id LIMIT %s
            """,
            arguments,
        )
        return [Scored(found, float(score)) for found, score in cursor.fetchall()]


def search_approximate(row: VectorNamespace, vector: Vector, limit: int, *, width: int) -> list[Scored]:
    """By the namespace's own approximate index, looking at so many candidates."""
    embedding = f"embedding::halfvec({row.dimension})"
    text = vector_text(vector)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(min(width, MAX_WIDTH))])
        cursor.execute(
            f"""
            SELECT id, -({embedding} <#> %s::halfvec({row.dimension})) FROM {TABLE}
             WHERE namespace_id = {row.id} ORDER BY {embedding} <#> %s::halfvec({row.dimension}) LIMIT %s
            """,
            [text, text, limit],
        )
        return [Scored(found, float(score)) for found, score in cursor.fetchall()]


def rows_count(row: VectorNamespace) -> int:
    if not table_exists():
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE namespace_id = %s", [row.id])
        return int(cursor.fetchone()[0])


def index_name(row: VectorNamespace) -> str:
    return f"vector_store_hnsw_{row.id}"


def vector_text(vector: Vector) -> str:
    """As PostgreSQL reads it."""
    return f"[{','.join(map(repr, vector.astype('f4').tolist()))}]"


def _write(row: VectorNamespace, vectors: Mapping[str, Vector]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        if len(vectors) < _COPIED:
            texts = [vector_text(vector) for vector in vectors.values()]
            cursor.execute(_UPSERT, [row.id, list(vectors), texts])
            return
        cursor.execute(_STAGE)
        with cursor.copy("COPY staged_vector (id, embedding) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(_COPY_HEAD + b"".join(_copied(vectors)) + struct.pack(">h", -1))
        cursor.execute(_UPSERT_STAGED, [row.id])
        cursor.execute("DROP TABLE staged_vector")


def _copied(vectors: Mapping[str, Vector]) -> Iterator[bytes]:
    """Rows of PostgreSQL's binary format; a halfvec is its length, two unused bytes and the numbers."""
    for vector_id, vector in vectors.items():
        name = vector_id.encode()
        body = struct.pack(">hh", len(vector), 0) + vector.astype(">f2").tobytes()
        yield struct.pack(">hi", 2, len(name)) + name + struct.pack(">i", len(body)) + body


@contextmanager
def _errors_told() -> Iterator[None]:
    """A table or type that isn't there, as what it means."""
    try:
        yield
    except ProgrammingError as error:
        state = getattr(error.__cause__, "sqlstate", "")
        if state not in ("42P01", "42704", "42883", "42703"):
            raise
        if not connection.in_atomic_block:
            # So that they are filled again once there is one.
            VectorSpace.objects.filter(namespace__index=NAME, complete=True).update(complete=False)
        raise VectorIndexUnavailable(
            "there are no vectors in this database: it has no pgvector, or has lost it",
            next_step="Text search works without. Look at `vectors` in /api/ready/ or ./archon doctor.",
        ) from error
