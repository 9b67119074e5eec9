"""Both indexes keep what ``VectorIndex`` promises; Pinecone is asked by its own library, of a server that is late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.core.errors import InvalidInput
from apps.vector_store.errors import VectorIndexUnavailable
from apps.vector_store.indexes.pgvector import PgVectorIndex
from apps.vector_store.indexes.pinecone import PineconeIndex
from apps.vector_store.models import PineconeVector, VectorNamespace
from apps.vector_store.types import Vector, VectorIndex
from integrations.pinecone_config import PineconeConfig
from tests.loopback.pinecone_server import PineconeServer

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

DIMENSION = 24


def pinecone_at(server: PineconeServer) -> PineconeIndex:
    config = PineconeConfig(
        api_key=server.api_key, index_name="archon-index", cloud="aws", region="us-east-1", controller_host=server.url
    )
    return PineconeIndex(config, confirm_after=timedelta(0))


@pytest.fixture
def pinecone_server() -> Iterator[PineconeServer]:
    with PineconeServer() as server:
        server.index_put("archon-index", DIMENSION)
        yield server


@pytest.fixture(params=["pgvector", "pinecone", "pinecone that is late"])
def index(request: pytest.FixtureRequest, pinecone_server: PineconeServer) -> Iterator[VectorIndex]:
    if request.param == "pgvector":
        yield PgVectorIndex()
        return
    pinecone_server.lag = request.param != "pinecone"
    opened = pinecone_at(pinecone_server)
    yield opened
    opened.close()
    assert pinecone_server.refused == []


def vectors_make(count: int, *, seed: int = 1, dimension: int = DIMENSION) -> list[Vector]:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return list(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def exact(vectors: dict[str, Vector], asked: Vector, limit: int) -> list[str]:
    return sorted(vectors, key=lambda name: -float(vectors[name] @ asked))[:limit]


def test_the_nearest_are_found_best_first_with_their_cosine(index: VectorIndex) -> None:
    kept = {f"chunk-{number}": vector for number, vector in enumerate(vectors_make(300))}
    index.upsert(namespace="a", vectors=list(kept.items()))
    for asked in vectors_make(5, seed=2):
        hits = index.query(namespace="a", vector=asked, limit=10)
        assert [hit.id for hit in hits] == exact(kept, asked, 10)
        for hit in hits:
            assert hit.score == pytest.approx(float(kept[hit.id] @ asked), abs=2e-3)


def test_namespaces_do_not_see_each_other(index: VectorIndex) -> None:
    one, other = vectors_make(2)
    index.upsert(namespace="a", vectors=[("x", one)])
    index.upsert(namespace="b", vectors=[("y", other)])
    assert [hit.id for hit in index.query(namespace="a", vector=other, limit=10)] == ["x"]
    assert [hit.id for hit in index.query(namespace="b", vector=other, limit=10)] == ["y"]
    assert index.query(namespace="c", vector=other, limit=10) == []
    assert (index.count(namespace="a"), index.count(namespace="b"), index.count(namespace="c")) == (1, 1, 0)


def test_the_last_vector_of_an_id_counts_at_once(index: VectorIndex) -> None:
    first, second = vectors_make(2)
    index.upsert(namespace="a", vectors=[("x", first)])
    index.upsert(namespace="a", vectors=[("x", first), ("x", second)])
    (hit,) = index.query(namespace="a", vector=second, limit=5)
    assert hit.score == pytest.approx(1.0, abs=2e-3)
    assert index.count(namespace="a") == 1


def test_what_is_deleted_is_not_found_any_more(index: VectorIndex) -> None:
    kept = {f"{number}": vector for number, vector in enumerate(vectors_make(20))}
    index.upsert(namespace="a", vectors=list(kept.items()))
    index.delete(namespace="a", ids=["3", "4", "never-there"])
    index.delete(namespace="nowhere", ids=["3"])
    found = {hit.id for hit in index.query(namespace="a", vector=kept["3"], limit=20)}
    assert found == set(kept) - {"3", "4"}
    assert index.missing(namespace="a", ids=["3", "5", "z"]) == {"3", "z"}
    index.upsert(namespace="a", vectors=[("3", kept["3"])])
    assert index.query(namespace="a", vector=kept["3"], limit=1)[0].id == "3"


def test_a_search_among_ids_finds_the_nearest_of_these(index: VectorIndex) -> None:
    kept = {f"{number}": vector for number, vector in enumerate(vectors_make(200))}
    index.upsert(namespace="a", vectors=list(kept.items()))
    asked = vectors_make(1, seed=3)[0]
    among = {name: vector for name, vector in kept.items() if int(name) % 7 == 0}
    hits = index.query(namespace="a", vector=asked, limit=5, ids={*among, "unknown"})
    assert [hit.id for hit in hits] == exact(among, asked, 5)
    assert index.query(namespace="a", vector=asked, limit=5, ids=set()) == []


def test_a_dropped_namespace_is_empty_and_can_be_filled_again(index: VectorIndex) -> None:
    one, other = vectors_make(2)
    index.upsert(namespace="a", vectors=[("x", one), ("y", other)])
    index.drop(namespace="a")
    index.drop(namespace="never there")
    assert index.query(namespace="a", vector=one, limit=5) == []
    assert index.count(namespace="a") == 0
    index.upsert(namespace="a", vectors=[("z", other)])
    assert [hit.id for hit in index.query(namespace="a", vector=one, limit=5)] == ["z"]


def test_what_cannot_be_kept_is_refused(index: VectorIndex) -> None:
    one = vectors_make(1)[0]
    for wrong in ("", "a b", "ä", "x" * 65, "a\x00"):
        with pytest.raises(InvalidInput):
            index.upsert(namespace="a", vectors=[(wrong, one)])
    index.upsert(namespace="a", vectors=[("x", one)])
    with pytest.raises(InvalidInput):
        index.upsert(namespace="a", vectors=[("y", one[:10])])
    with pytest.raises(InvalidInput):
        index.query(namespace="a", vector=one[:10], limit=3)
    with pytest.raises(InvalidInput):
        index.query(namespace="a", vector=one, limit=0)
    index.upsert(namespace="a", vectors=[])
    assert index.count(namespace="a") == 1


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["upsert", "delete", "settle"]), st.sets(st.integers(0, 8), max_size=6)), max_size=8
    )
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_writes_leaves_what_was_written_last(
    steps: list[tuple[str, set[int]]], pinecone_server: PineconeServer
) -> None:
    pinecone_server.lag = True
    asked = vectors_make(1, seed=9)[0]
    for index in (PgVectorIndex(), pinecone_at(pinecone_server)):
        namespace = f"steps-{VectorNamespace.objects.count()}-{id(index)}"
        kept: dict[str, Vector] = {}
        for number, (kind, names) in enumerate(steps):
            ids = sorted(map(str, names))
            if kind == "upsert":
                written = dict(zip(ids, vectors_make(len(ids), seed=number), strict=True))
                index.upsert(namespace=namespace, vectors=list(written.items()))
                kept |= written
            elif kind == "delete":
                index.delete(namespace=namespace, ids=ids)
                kept = {name: vector for name, vector in kept.items() if name not in ids}
            elif isinstance(index, PineconeIndex):
                pinecone_server.settle()
                index.flush()
            found = index.query(namespace=namespace, vector=asked, limit=20)
            assert {hit.id for hit in found} == set(kept)
            for hit in found:
                assert hit.score == pytest.approx(float(kept[hit.id] @ asked), abs=2e-3)


class TestPinecone:
    def test_what_searches_see_is_let_go_of_here(self, pinecone_server: PineconeServer) -> None:
        pinecone_server.lag = True
        index = pinecone_at(pinecone_server)
        kept = {f"{number}": vector for number, vector in enumerate(vectors_make(250))}
        index.upsert(namespace="a", vectors=list(kept.items()))
        index.delete(namespace="a", ids=["7"])
        # What was deleted before anybody saw it needs no look any more.
        assert index.flush() == 249
        pinecone_server.settle()
        assert index.flush() == 0
        assert not PineconeVector.objects.filter(content__isnull=False).exists()
        assert PineconeVector.objects.count() == 249
        asked = vectors_make(1, seed=3)[0]
        del kept["7"]
        assert [hit.id for hit in index.query(namespace="a", vector=asked, limit=10)] == exact(kept, asked, 10)
        assert pinecone_server.refused == []

    def test_writes_that_are_not_taken_are_found_and_sent_later(self, pinecone_server: PineconeServer) -> None:
        index = pinecone_at(pinecone_server)
        first, second = vectors_make(2)
        index.upsert(namespace="a", vectors=[("x", first)])
        assert index.flush() == 0
        pinecone_server.failing = 400
        index.upsert(namespace="a", vectors=[("y", second)])
        index.delete(namespace="a", ids=["x"])
        with pytest.raises(VectorIndexUnavailable):
            index.query(namespace="a", vector=first, limit=5)
        assert index.flush() == 2
        pinecone_server.failing = None
        pinecone_server.refused.clear()
        assert [hit.id for hit in index.query(namespace="a", vector=first, limit=5)] == ["y"]
        # The first look sends them, the second sees them.
        index.flush()
        assert index.flush() == 0
        assert [hit.id for hit in index.query(namespace="a", vector=first, limit=5)] == ["y"]
        namespace = pinecone_server.indexes["archon-index"].namespaces["a"]
        assert set(namespace.written) == {"y"}

    def test_an_older_vector_that_is_still_seen_does_not_count(self, pinecone_server: PineconeServer) -> None:
        index = pinecone_at(pinecone_server)
        first, second = vectors_make(2)
        index.upsert(namespace="a", vectors=[("x", first)])
        index.flush()
        pinecone_server.lag = True
        index.upsert(namespace="a", vectors=[("x", second)])
        (hit,) = index.query(namespace="a", vector=first, limit=5)
        assert hit.score == pytest.approx(float(second @ first), abs=2e-3)
        assert index.flush() == 1
        pinecone_server.settle()
        assert index.flush() == 0

    def test_the_index_is_made_and_another_length_gets_one_beside_it(self) -> None:
        with PineconeServer() as server:
            index = pinecone_at(server)
            assert "is made when" in index.check()
            index.upsert(namespace="a", vectors=[("x", vectors_make(1, dimension=8)[0])])
            index.upsert(namespace="b", vectors=[("x", vectors_make(1, dimension=16)[0])])
            assert {name: made.dimension for name, made in server.indexes.items()} == {
                "archon-index": 8,
                "archon-index-16": 16,
            }
            assert "ready" in index.check()
            assert server.refused == []

    def test_an_index_of_another_measure_is_not_used(self) -> None:
        with PineconeServer() as server:
            server.index_put("archon-index", DIMENSION, metric="euclidean")
            server.index_put(f"archon-index-{DIMENSION}", DIMENSION, metric="euclidean")
            index = pinecone_at(server)
            index.upsert(namespace="a", vectors=[("x", vectors_make(1)[0])])
            with pytest.raises(VectorIndexUnavailable, match="holds no vectors") as caught:
                index.query(namespace="a", vector=vectors_make(1)[0], limit=1)
            assert "PINECONE_INDEX_NAME" in caught.value.next_step

    def test_a_refused_key_is_told_without_it(self, pinecone_server: PineconeServer) -> None:
        config = PineconeConfig(
            api_key="another", index_name="archon-index", cloud="aws", region="r", controller_host=pinecone_server.url
        )
        index = PineconeIndex(config)
        with pytest.raises(VectorIndexUnavailable, match="refuses the key") as caught:
            index.check()
        assert "another" not in caught.value.message
        assert "PINECONE_API_KEY" in caught.value.next_step

    def test_nobody_there_is_told(self) -> None:
        with PineconeServer() as server:
            index = pinecone_at(server)
        with pytest.raises(VectorIndexUnavailable, match="cannot be used now"):
            index.check()
