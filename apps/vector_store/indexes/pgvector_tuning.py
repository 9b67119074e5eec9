"""When a namespace is too large to be searched exactly: an approximate index of its own, if it is measured to be good.

Nothing is believed: after it is built, vectors of the namespace itself are searched both ways, and it serves with the
least width that finds what it should, or not at all.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from django.utils import timezone

from apps.vector_store.models import VectorNamespace

from .pgvector import MAX_WIDTH, NAME, TABLE, index_name, rows_count, search_approximate, search_exact

logger = logging.getLogger(__name__)

#: Of ten true neighbours, so many have to be found on average.
WANTED_RECALL = 0.97
WIDTHS = (60, 100, 200, 400, MAX_WIDTH)
_NEIGHBOURS = 10
_PROBES = 60
#: An index that was built for fewer vectors than this part of those there are is measured again.
_GROWN = 1.5
#: An approximate index of pgvector takes no longer vectors.
MAX_DIMENSION = 4_000


@dataclass(frozen=True)
class Measured:
    """What an approximate index of a namespace finds at one width, against an exact search."""

    width: int
    recall: float


def namespaces_tune() -> int:
    """Look after all namespaces that have become too large, or grown since; says how many were built."""
    built = 0
    for row in VectorNamespace.objects.filter(index=NAME).order_by("id"):
        if needs_tuning(row):
            namespace_tune(row)
            built += 1
    return built


def needs_tuning(row: VectorNamespace) -> bool:
    limit = settings.ARCHON_VECTOR_EXACT_LIMIT
    if not limit or row.dimension > MAX_DIMENSION:
        return False
    count = rows_count(row)
    return count > limit and count > _GROWN * (row.measured_vectors or 0)


def namespace_tune(row: VectorNamespace) -> Measured | None:
    """Build the namespace's approximate index and measure it. None: it isn't good enough, and searches stay exact.

    Outside of any transaction: the table is written to meanwhile.
    """
    count = rows_count(row)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index_name(row)}")
        cursor.execute(
            f"CREATE INDEX CONCURRENTLY {index_name(row)} ON {TABLE}"
            f" USING hnsw ((embedding::halfvec({row.dimension})) halfvec_ip_ops) WITH (m = 16, ef_construction = 128)"
            f" WHERE namespace_id = {row.id}"
        )
        # The planner has to know how large the namespace is.
        cursor.execute(f"ANALYZE {TABLE}")
    good = next((found for found in (measure(row, width) for width in WIDTHS) if found.recall >= WANTED_RECALL), None)
    if good is None:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index_name(row)}")
        logger.warning("the vectors of %s stay searched exactly: an approximate index finds too few of them", row.name)
    VectorNamespace.objects.filter(id=row.id).update(
        search_width=good.width if good else None,
        recall=good.recall if good else None,
        measured_at=timezone.now(),
        measured_vectors=count,
    )
    return good


def measure(row: VectorNamespace, width: int, *, probes: int = _PROBES) -> Measured:
    """The part of the true neighbours that the approximate index finds, asked with vectors of the namespace."""
    import numpy as np

    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT embedding::text FROM {TABLE} WHERE namespace_id = %s ORDER BY hashtext(id) LIMIT %s",
            [row.id, probes],
        )
        asked = [np.fromstring(text.strip("[]"), np.float32, sep=",") for (text,) in cursor.fetchall()]
    shares = []
    for vector in asked:
        true = {hit.id for hit in search_exact(row, vector, _NEIGHBOURS, None)}
        found = {hit.id for hit in search_approximate(row, vector, _NEIGHBOURS, width=width)}
        shares.append(len(true & found) / max(1, len(true)))
    return Measured(width, sum(shares) / max(1, len(shares)))
