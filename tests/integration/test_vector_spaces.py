"""A project's vectors: filled in behind, kept up to date, and made anew after a change while the old ones serve."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.projects.models import Project
from apps.usage import embedding
from apps.usage.allowances import allowance_set
from apps.usage.errors import BudgetExceeded
from apps.usage.retry import RetryPolicy
from apps.usage.types import AllowanceLimits, Limits
from apps.vector_store import spaces
from apps.vector_store.indexes.pgvector import TABLE
from apps.vector_store.models import VectorNamespace, VectorSpace
from apps.vector_store.spaces import (
    choice_set,
    namespaces_sweep,
    projects_due,
    space_fill,
    spaces_plan,
    status_get,
    statuses,
    vectors_delete,
    vectors_search,
    vectors_write,
)
from apps.vector_store.tasks import flush_vectors, tend_vectors
from apps.vector_store.types import Payer, SpaceStatus
from tests.loopback.embed_server import EmbedServer
from tests.loopback.json_server import Answer
from tests.loopback.pinecone_server import PineconeServer

from .embed_scene import Texts, all_closed, payer_make

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

CHUNKS = {
    f"chunk-{number}": f"def function_{number} {word} of the program"
    for number, word in enumerate(
        ["sorting", "parsing", "network", "database", "cache", "queue", "token", "secret"] * 5
    )
}


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(embedding, "RetryPolicy", lambda: RetryPolicy(attempts=1, base_s=0.0))
    with all_closed():
        yield


@pytest.fixture
def server(settings: Any) -> Iterator[EmbedServer]:
    with EmbedServer(dimension=256) as running:
        settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = running.base_url, running.api_key
        settings.ARCHON_EMBEDDER, settings.ARCHON_EMBEDDER_DIMENSION = "openai:text-embedding-3-small", 256
        yield running
        assert running.refused == []


@pytest.fixture
def payer() -> Payer:
    return payer_make()


def fill(payer: Payer, source: Texts, **more: Any) -> list[SpaceStatus]:
    for space in spaces_plan(payer):
        space_fill(space=space, source=source, payer=payer, **more)
    return statuses(payer.project_id)


def found(payer: Payer, query: str, limit: int = 3, **more: Any) -> list[str]:
    return [hit.id for hit in vectors_search(payer=payer, query=query, limit=limit, **more).hits]


def test_a_project_is_filled_and_searched(server: EmbedServer, payer: Payer) -> None:
    assert status_get(payer.project_id, "primary").state == "empty"
    assert found(payer, "anything") == []
    primary, second = fill(payer, Texts(dict(CHUNKS)))
    assert (primary.state, primary.vectors, second.state) == ("ready", 40, "off")
    assert "text-embedding-3-small" in primary.embedder_key
    hits = vectors_search(payer=payer, query="database of the program", limit=5)
    assert hits.hits[0].id in {name for name, text in CHUNKS.items() if "database" in text}
    assert hits.status.state == "ready"
    assert len(found(payer, "database", limit=100_000)) == 40
    among = {"chunk-0", "chunk-1"}
    assert set(found(payer, "network", limit=10, ids=among)) == among


def test_it_goes_on_where_it_was_broken_off(server: EmbedServer, payer: Payer) -> None:
    source = Texts(dict(CHUNKS))
    (space,) = spaces_plan(payer)
    stopped = space_fill(space=space, source=source, payer=payer, progress=lambda done, of: done < 20)
    assert (stopped.complete, stopped.made, stopped.status.state) == (False, 20, "filling")
    assert found(payer, "sorting of the program")[0] == "chunk-0"
    assert projects_due() == [payer.project_id]
    finished = space_fill(space=space, source=source, payer=payer)
    assert (finished.complete, finished.made, finished.status.state) == (True, 20, "ready")
    assert sorted(source.asked) == sorted(CHUNKS)
    assert projects_due() == []


def test_changes_are_found_at_once(server: EmbedServer, payer: Payer) -> None:
    fill(payer, Texts(dict(CHUNKS)))
    vectors_write(payer=payer, texts={"new": "an entirely different elephant"})
    assert found(payer, "elephant")[0] == "new"
    vectors_delete(project_id=payer.project_id, ids=["new"])
    assert "new" not in found(payer, "elephant", limit=50)


def test_after_a_change_of_the_embedder_the_old_vectors_serve(server: EmbedServer, payer: Payer) -> None:
    source = Texts(dict(CHUNKS))
    fill(payer, source)
    old = status_get(payer.project_id, "primary").embedder_key
    choice_set(project_id=payer.project_id, primary="openai:text-embedding-3-large", second="", dimension=128)
    assert projects_due() == [payer.project_id]
    filling, serving = spaces_plan(payer)
    space_fill(space=filling, source=source, payer=payer, progress=lambda done, of: done < 20)
    status = status_get(payer.project_id, "primary")
    assert (status.state, status.embedder_key, status.vectors) == ("refilling", old, 40)
    assert status.filling_key.endswith(":128")
    vectors_write(payer=payer, texts={"new": "an entirely different elephant"})
    source.all["new"] = "an entirely different elephant"
    assert found(payer, "elephant")[0] == "new"
    done = space_fill(space=filling, source=source, payer=payer)
    assert (done.complete, done.status.state) == (True, "ready")
    assert done.status.embedder_key.endswith(":128")
    assert done.status.vectors == 41
    assert found(payer, "elephant")[0] == "new"
    assert found(payer, "queue of the program")[0] in {name for name, text in CHUNKS.items() if "queue" in text}
    # What the old one had goes.
    assert VectorNamespace.objects.count() == 2
    VectorNamespace.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert namespaces_sweep() == 1
    assert VectorNamespace.objects.get() == filling.namespace
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE namespace_id = %s", [serving.namespace_id])
        assert cursor.fetchone() == (0,)


def test_a_change_back_leaves_everything_as_it_was(server: EmbedServer, payer: Payer) -> None:
    source = Texts(dict(CHUNKS))
    fill(payer, source)
    choice_set(project_id=payer.project_id, primary="openai:text-embedding-3-large", second="", dimension=128)
    spaces_plan(payer)
    choice_set(project_id=payer.project_id, primary="", second="", dimension=0)
    (space,) = spaces_plan(payer)
    assert space.complete
    assert status_get(payer.project_id, "primary").state == "ready"
    assert projects_due() == []


def test_a_change_of_the_servers_default_is_noticed(server: EmbedServer, payer: Payer, settings: Any) -> None:
    fill(payer, Texts(dict(CHUNKS)))
    assert projects_due() == []
    settings.ARCHON_EMBEDDER_DIMENSION = 64
    assert projects_due() == [payer.project_id]
    status, _ = fill(payer, Texts(dict(CHUNKS)))
    assert (status.state, status.vectors) == ("ready", 40)
    assert status.embedder_key.endswith(":64")
    settings.ARCHON_EMBEDDER = "off"
    assert projects_due() == [payer.project_id]
    assert spaces_plan(payer) == []
    assert status_get(payer.project_id, "primary").state == "off"


def test_a_second_vector_fills_in_beside_the_first(server: EmbedServer, payer: Payer, settings: Any) -> None:
    settings.ARCHON_EMBEDDER_SECOND = "openai:text-embedding-3-large"
    primary, second = fill(payer, Texts(dict(CHUNKS)))
    assert (primary.state, second.state) == ("ready", "ready")
    assert primary.embedder_key != second.embedder_key
    assert found(payer, "cache of the program", slot="second")[0] in {
        name for name, text in CHUNKS.items() if "cache" in text
    }
    vectors_delete(project_id=payer.project_id, ids=list(CHUNKS))
    assert [status.vectors for status in statuses(payer.project_id)] == [0, 0]


def test_an_embedder_that_is_down_stops_nothing_else_and_is_tried_again(server: EmbedServer, payer: Payer) -> None:
    source = Texts(dict(CHUNKS))
    server.instead = lambda texts: Answer(503, {"error": {"message": "overloaded"}})
    status, _ = fill(payer, source)
    assert (status.state, status.vectors) == ("stopped", 0)
    assert "503" in status.detail
    assert status.next_step
    # Not at once again.
    assert spaces_plan(payer) == []
    assert projects_due() == []
    VectorSpace.objects.update(retry_at=timezone.now())
    assert projects_due() == [payer.project_id]
    server.instead = None
    status, _ = fill(payer, source)
    assert (status.state, status.detail) == ("ready", "")
    server.instead = lambda texts: Answer(503, {"error": {"message": "overloaded"}})
    hits = vectors_search(payer=payer, query="never asked before", limit=3)
    assert (hits.hits, hits.status.state) == ((), "stopped")
    assert "503" in hits.status.detail


def test_other_dimensions_are_told_and_a_way_out_is_there(server: EmbedServer, payer: Payer, settings: Any) -> None:
    settings.ARCHON_EMBEDDER, settings.ARCHON_EMBEDDER_DIMENSION = "openai:a-model-of-ours", 0
    source = Texts(dict(CHUNKS))
    fill(payer, source)
    server.dimension = 100
    vectors_write(payer=payer, texts={"new": "text"})
    status = status_get(payer.project_id, "primary")
    assert status.state == "stopped"
    assert "100" in status.detail
    assert "ARCHON_EMBEDDER_DIMENSION" in status.next_step
    settings.ARCHON_EMBEDDER_DIMENSION = 100
    VectorSpace.objects.update(retry_at=None)
    source.all["new"] = "text"
    status, _ = fill(payer, source)
    assert (status.state, status.vectors) == ("ready", 41)
    assert found(payer, "text")[0] == "new"


def test_a_limit_stops_filling_and_refuses_a_search(server: EmbedServer, payer: Payer) -> None:
    source = Texts(dict(CHUNKS))
    (space,) = spaces_plan(payer)
    space_fill(space=space, source=source, payer=payer, progress=lambda done, of: done < 10)
    limits = AllowanceLimits(total=Limits(tokens=1))
    allowance_set(scope="project", owner_id=payer.project_id, limits=limits)
    status = space_fill(space=space, source=source, payer=payer).status
    assert status.state == "stopped"
    assert "limit" in status.detail
    with pytest.raises(BudgetExceeded):
        vectors_search(payer=payer, query="never asked before", limit=3)


def test_without_a_key_the_state_says_so(payer: Payer, settings: Any) -> None:
    settings.ARCHON_EMBEDDER = "openai:text-embedding-3-small"
    assert spaces_plan(payer) == []
    assert vectors_search(payer=payer, query="x", limit=1).hits == ()


def test_postgres_without_pgvector_is_a_state_and_no_error(server: EmbedServer, payer: Payer) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION vector CASCADE")
    try:
        status, _ = fill(payer, Texts(dict(CHUNKS)))
        assert (status.state, status.vectors) == ("stopped", 0)
        assert "pgvector" in status.detail
        assert "Text search works" in status.next_step
        hits = vectors_search(payer=payer, query="network", limit=3)
        assert (hits.hits, hits.status.state) == ((), "stopped")
        vectors_delete(project_id=payer.project_id, ids=["x"])
        tend_vectors()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION vector")
    VectorSpace.objects.update(retry_at=None)
    status, _ = fill(payer, Texts(dict(CHUNKS)))
    assert (status.state, status.vectors) == ("ready", 40)


def test_vectors_that_were_lost_with_the_extension_are_made_again(server: EmbedServer, payer: Payer) -> None:
    fill(payer, Texts(dict(CHUNKS)))
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION vector CASCADE")
        cursor.execute("CREATE EXTENSION vector")
    assert vectors_search(payer=payer, query="network", limit=3).status.state == "stopped"
    assert projects_due() == [payer.project_id]
    status, _ = fill(payer, Texts(dict(CHUNKS)))
    assert (status.state, status.vectors) == ("ready", 40)
    assert len(vectors_search(payer=payer, query="network", limit=3).hits) == 3


def test_a_projects_end_takes_its_vectors_along(server: EmbedServer, payer: Payer) -> None:
    fill(payer, Texts(dict(CHUNKS)))
    namespace_id = VectorNamespace.objects.get().id
    Project.objects.filter(id=payer.project_id).delete()
    VectorNamespace.objects.update(created_at=timezone.now() - timedelta(hours=1))
    tend_vectors()
    assert VectorNamespace.objects.count() == 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE namespace_id = %s", [namespace_id])
        assert cursor.fetchone() == (0,)


def test_projects_do_not_see_each_other(server: EmbedServer, payer: Payer) -> None:
    fill(payer, Texts({"mine": "the secret of one"}))
    other = payer_make()
    fill(other, Texts({"theirs": "the secret of another"}))
    assert found(payer, "secret", limit=10) == ["mine"]
    assert found(other, "secret", limit=10) == ["theirs"]
    assert found(Payer(project_id=uuid.uuid4()), "secret") == []


class TestPineconeSpaces:
    @pytest.fixture
    def pinecone(self, settings: Any) -> Iterator[PineconeServer]:
        with PineconeServer(lag=True) as running:
            settings.PINECONE_API_KEY, settings.PINECONE_CONTROLLER_HOST = running.api_key, running.url
            yield running
            assert running.refused == []

    def test_a_key_of_pinecone_puts_vectors_there(
        self, server: EmbedServer, pinecone: PineconeServer, payer: Payer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        status, _ = fill(payer, Texts(dict(CHUNKS)))
        assert (status.state, status.vectors) == ("ready", 40)
        namespace = VectorNamespace.objects.get()
        assert len(pinecone.indexes["archon-index"].namespaces[namespace.name].written) == 40
        assert found(payer, "queue of the program")[0] in {name for name, text in CHUNKS.items() if "queue" in text}
        pinecone.settle()
        flush_vectors()
        assert found(payer, "token of the program")[0] in {name for name, text in CHUNKS.items() if "token" in text}
        Project.objects.filter(id=payer.project_id).delete()
        VectorNamespace.objects.update(created_at=timezone.now() - timedelta(hours=1))
        pinecone.failing = 400
        assert namespaces_sweep() == 0
        pinecone.failing = None
        pinecone.refused.clear()
        assert namespaces_sweep() == 1
        assert pinecone.indexes["archon-index"].namespaces == {}

    def test_moving_to_pinecone_embeds_nothing_again(
        self, server: EmbedServer, pinecone: PineconeServer, payer: Payer, settings: Any
    ) -> None:
        settings.ARCHON_VECTOR_INDEX = "pgvector"
        fill(payer, Texts(dict(CHUNKS)))
        embedded = len(server.texts)
        settings.ARCHON_VECTOR_INDEX = "pinecone"
        assert projects_due() == [payer.project_id]
        status, _ = fill(payer, Texts(dict(CHUNKS)))
        assert (status.state, status.vectors, len(server.texts)) == ("ready", 40, embedded)
        assert [namespace.index for namespace in VectorNamespace.objects.filter(space__isnull=False)] == ["pinecone"]

    def test_pinecone_away_is_a_state(self, server: EmbedServer, pinecone: PineconeServer, payer: Payer) -> None:
        fill(payer, Texts(dict(CHUNKS)))
        pinecone.failing = 400
        hits = vectors_search(payer=payer, query="queue", limit=3)
        assert (hits.hits, hits.status.state) == ((), "stopped")
        assert "Pinecone" in hits.status.detail
        pinecone.failing = None
        pinecone.refused.clear()

    def test_a_key_that_is_gone_is_a_state(
        self, server: EmbedServer, pinecone: PineconeServer, payer: Payer, settings: Any
    ) -> None:
        fill(payer, Texts(dict(CHUNKS)))
        settings.PINECONE_API_KEY = ""
        hits = vectors_search(payer=payer, query="queue", limit=3)
        assert "no key" in hits.status.detail
        flush_vectors()
        # Vectors fill in with pgvector, and serve once they are there.
        status, _ = fill(payer, Texts(dict(CHUNKS)))
        assert (status.state, status.vectors) == ("ready", 40)


def test_batches_of_any_size_are_written(server: EmbedServer, payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spaces, "texts_batch", lambda record: 3)
    status, _ = fill(payer, Texts(dict(CHUNKS)))
    assert (status.state, status.vectors) == ("ready", 40)
