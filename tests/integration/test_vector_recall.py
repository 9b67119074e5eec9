"""What pgvector finds of the true neighbours, by how large a project is among all: real code, real embeddings."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import django
import numpy as np
import pytest
from django.db import connection, transaction

from apps.vector_store.indexes.pgvector import (
    TABLE,
    PgVectorIndex,
    index_name,
    rows_count,
    search_approximate,
    table_ensure,
    vector_text,
)
from apps.vector_store.indexes.pgvector_tuning import namespace_tune, namespaces_tune, needs_tuning
from apps.vector_store.models import VectorNamespace
from apps.vector_store.types import Vectors
from integrations.embedders import minilm

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 3_000
NEIGHBOURS = 10


def _functions() -> Iterator[str]:
    """Functions of Django's by where they are, what they are called and what they take."""
    root = Path(django.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = ", ".join(argument.arg for argument in node.args.args)
                words = (ast.get_docstring(node) or "").partition("\n")[0][:80]
                yield f"{path.relative_to(root)} {node.name}({arguments}) {words}"


@pytest.fixture(scope="module")
def embedded() -> Vectors:
    texts = sorted(set(_functions()))
    # Evenly, so that no corner of the code is over-represented.
    chosen = texts[:: max(1, len(texts) // ROWS)][:ROWS]
    pool = minilm.pool(size=2, idle_s=60.0, niceness=5)
    try:
        return pool.embed(chosen)
    finally:
        pool.close()


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    table_ensure()
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE}")
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE}")


def _true(rows: Vectors, asked: Any) -> set[str]:
    return {str(place) for place in np.argsort(-(rows @ asked))[:NEIGHBOURS]}


def _recall(found: Sequence[set[str]], rows: Vectors, asked: Vectors) -> float:
    return float(np.mean([len(hits & _true(rows, one)) / NEIGHBOURS for hits, one in zip(found, asked, strict=True)]))


def _projects_fill(rows: Vectors, share: float) -> tuple[Vectors, Vectors]:
    """One project with that share of the rows, another with the rest; the project's rows, and what is asked."""
    order = np.random.default_rng(7).permutation(len(rows))
    mine = rows[order[: round(share * len(rows))]]
    others = rows[order[len(mine) :]]
    index = PgVectorIndex()
    for name, part in (("mine", mine), ("others", others)):
        index.upsert(namespace=name, vectors=[(str(place), vector) for place, vector in enumerate(part)])
    # Questions lie beside what is there.
    asked = rows[np.random.default_rng(8).choice(len(rows), 40, replace=False)]
    asked = asked + np.random.default_rng(9).normal(scale=0.02, size=asked.shape).astype(np.float32)
    return mine, asked / np.linalg.norm(asked, axis=1, keepdims=True)


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_a_project_of_any_size_finds_its_true_neighbours(share: float, embedded: Vectors) -> None:
    mine, asked = _projects_fill(embedded, share)
    index = PgVectorIndex()
    found = [{hit.id for hit in index.query(namespace="mine", vector=one, limit=NEIGHBOURS)} for one in asked]
    # Numbers of two bytes may swap two that are as near.
    assert _recall(found, mine, asked) >= 0.99


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_large_projects_have_an_index_that_was_measured_and_small_ones_none(
    share: float, embedded: Vectors, settings: Any
) -> None:
    settings.ARCHON_VECTOR_EXACT_LIMIT = 1_000
    mine, asked = _projects_fill(embedded, share)
    namespaces_tune()
    row = VectorNamespace.objects.get(name="mine")
    if share < 1.0:
        assert row.search_width is None
    else:
        assert row.search_width is not None
        assert row.recall is not None
        assert row.recall >= 0.97
        # It is the index that is asked, and not a scan that happens to be right.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"EXPLAIN SELECT id FROM {TABLE} WHERE namespace_id = {row.id}"
                f" ORDER BY embedding::halfvec(384) <#> %s::halfvec(384) LIMIT 10",
                [vector_text(asked[0])],
            )
            assert index_name(row) in str(cursor.fetchall())
    index = PgVectorIndex()
    found = [{hit.id for hit in index.query(namespace="mine", vector=one, limit=NEIGHBOURS)} for one in asked]
    assert _recall(found, mine, asked) >= (0.99 if share < 1.0 else 0.95)
    # Among ids it is exact whatever the size.
    among = {str(place) for place in range(0, len(mine), 3)}
    for one in asked[:5]:
        hits = index.query(namespace="mine", vector=one, limit=3, ids=among)
        part = {name: float(mine[int(name)] @ one) for name in among}
        assert hits[0].score == pytest.approx(max(part.values()), abs=2e-3)


def test_one_index_over_all_projects_would_not_do(embedded: Vectors) -> None:
    """The control: the same rows behind the usual index, of which a small project gets next to nothing."""
    mine, asked = _projects_fill(embedded, 0.01)
    row = VectorNamespace.objects.get(name="mine")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX all_projects ON {TABLE} USING hnsw ((embedding::halfvec(384)) halfvec_ip_ops)")
        cursor.execute(f"ANALYZE {TABLE}")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # As the planner chooses where there are more rows than a test can have.
            cursor.execute(
                "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
            )
            found = [{hit.id for hit in search_approximate(row, one, NEIGHBOURS, width=40)} for one in asked]
        assert _recall(found, mine, asked) < 0.5
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX all_projects")


def test_an_index_grows_with_its_project_and_goes_before_a_large_write(embedded: Vectors, settings: Any) -> None:
    settings.ARCHON_VECTOR_EXACT_LIMIT = 500
    index = PgVectorIndex()
    rows = list(embedded)
    index.upsert(namespace="a", vectors=[(str(place), vector) for place, vector in enumerate(rows[:1_000])])
    row = VectorNamespace.objects.get(name="a")
    assert needs_tuning(row)
    assert namespace_tune(row) is not None
    row.refresh_from_db()
    assert not needs_tuning(row)
    index.upsert(namespace="a", vectors=[("1", rows[1])])
    row.refresh_from_db()
    assert row.search_width is not None
    index.upsert(namespace="a", vectors=[(str(place), vector) for place, vector in enumerate(rows)])
    row.refresh_from_db()
    assert row.search_width is None
    assert needs_tuning(row)
    assert rows_count(row) == len(rows)
    settings.ARCHON_VECTOR_EXACT_LIMIT = 0
    assert not needs_tuning(row)
