"""Embedding over HTTP: what comes back, who may ask, and what is refused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from apps.authentication.models import User
from apps.usage.models import ModelCall
from apps.vector_store import services
from apps.vector_store.models import CachedEmbedding
from integrations.embedders import static
from tests.api import CheckedClient, client_for, project_make, user_make
from tests.loopback.embed_server import EmbedServer
from tests.loopback.json_server import Answer

from .embed_scene import all_closed

pytestmark = pytest.mark.django_db(transaction=True)

EMBED = "/api/vector-store/embed/"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    with all_closed():
        yield


@pytest.fixture
def user() -> User:
    return user_make()


@pytest.fixture
def client(user: User) -> CheckedClient:
    return client_for(user)


@pytest.fixture
def server(settings: Any) -> Iterator[EmbedServer]:
    with EmbedServer() as running:
        settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = running.base_url, running.api_key
        yield running
        assert running.refused == []


def test_texts_become_vectors_offline(client: CheckedClient) -> None:
    texts = ["def add(a, b): return a + b", "sum of two numbers", "class HttpServer: ...", "\n\n"]
    answer = client.post(EMBED, {"texts": texts, "model": "minilm"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == "local:minilm-l6-v2-int8:1:384"
    vectors = np.array(body["embeddings"])
    assert vectors.shape == (4, body["dimension"]) == (4, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-3)
    assert vectors[0] @ vectors[1] > vectors[2] @ vectors[1] + 0.1
    # The same again comes out of the cache, and is the same.
    assert client.post(EMBED, {"texts": texts, "model": "minilm"}).json() == body


def test_a_model_of_our_own_embeds_within_the_server(client: CheckedClient) -> None:
    texts = [
        "net/mail.py send\ndef send(to, text): smtp.sendmail(ME, to, text)",
        "ui.py draw\ndef draw(): ...",
        "\n\n",
        "???",
    ]
    asked = {"model": "archon-static", "texts": ["deliver an email message"], "kind": "query"}
    # It is the one that there is without a setting.
    code = client.post(EMBED, {"texts": texts}).json()
    question = client.post(EMBED, asked).json()
    key = f"local:archon-static:{static.VERSION}:{static.DIMENSION}"
    assert code["model"] == question["model"] == key
    vectors = np.array(code["embeddings"])
    assert vectors.shape == (4, static.DIMENSION)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-3)
    assert (vectors @ np.array(question["embeddings"][0])).argmax() == 0
    # To look whether a vector is known would take longer than to make it.
    assert not CachedEmbedding.objects.exists()


def test_a_providers_embedder_needs_a_project_and_is_paid_by_it(
    client: CheckedClient, user: User, server: EmbedServer
) -> None:
    project = project_make(owner=user)
    asked = {"texts": ["one", "two"], "model": "openai:text-embedding-3-small", "kind": "query", "dimension": 64}
    refused = client.post(EMBED, asked)
    assert (refused.status_code, refused.json()["code"]) == (400, "embedder_refused")
    answer = client.post(EMBED, {**asked, "project": str(project.id)})
    assert answer.status_code == 200
    assert (len(answer.json()["embeddings"]), answer.json()["dimension"]) == (2, 64)
    call = ModelCall.objects.get()
    assert (call.budget.project_id, call.budget.user_id) == (project.id, user.id)


def test_who_may_only_look_may_not_spend(client: CheckedClient, user: User, server: EmbedServer) -> None:
    watched = project_make(owner=user_make(), viewer=user)
    asked = {"texts": ["one"], "model": "openai:text-embedding-3-small"}
    assert client.post(EMBED, {**asked, "project": str(watched.id)}).status_code == 403
    foreign = project_make(owner=user_make())
    assert client.post(EMBED, {**asked, "project": str(foreign.id)}).status_code == 404
    assert client.post(EMBED, {**asked, "project": str(uuid.uuid4())}).status_code == 404
    assert server.asked == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"texts": []},
        {"texts": "one"},
        {"texts": [""]},
        {"texts": [None]},
        {"texts": [{"a": 1}]},
        {"texts": ["x"] * 129},
        {"texts": ["x" * 24_001]},
        {"texts": ["x" * 20_000] * 21},
        {"texts": ["x"], "kind": "other"},
        {"texts": ["x"], "dimension": -1},
        {"texts": ["x"], "dimension": 1_000_000},
        {"texts": ["x"], "model": "no such"},
        {"texts": ["x"], "model": "anthropic:claude-sonnet-5"},
        {"texts": ["x"], "project": "not an id"},
    ],
)
def test_what_cannot_be_embedded_is_refused(client: CheckedClient, body: dict[str, Any]) -> None:
    answer = client.post(EMBED, body)
    assert answer.status_code == 400, answer.content


def test_requests_are_bounded(client: CheckedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_REQUESTS", 2)
    statuses = [client.post(EMBED, {"texts": ["x"]}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_a_failing_embedder_is_a_problem_with_a_next_step(
    client: CheckedClient, user: User, server: EmbedServer
) -> None:
    server.instead = lambda texts: Answer(200, {"data": [{"index": 0, "embedding": [1.0] * 3}]})
    project = project_make(owner=user)
    answer = client.post(EMBED, {"texts": ["x"], "model": "openai:text-embedding-3-small", "project": str(project.id)})
    assert (answer.status_code, answer.json()["code"]) == (503, "embedder_failed")
    assert answer.json()["kind"] == "dimension"
    assert answer.json()["next_step"]


def test_switched_off_is_told(client: CheckedClient, settings: Any) -> None:
    settings.ARCHON_EMBEDDER = "off"
    answer = client.post(EMBED, {"texts": ["x"]})
    assert (answer.status_code, answer.json()["code"]) == (503, "embedder_not_configured")


class TestEmbedders:
    def test_an_owner_chooses_and_everyone_in_the_project_sees(self, client: CheckedClient, user: User) -> None:
        viewer = user_make()
        project = project_make(owner=user, viewer=viewer)
        address = f"/api/vector-store/projects/{project.id}/embedders/"
        before = client.get(address).json()
        assert (before["primary"], [space["state"] for space in before["spaces"]]) == ("", ["empty", "off"])
        chosen = {"primary": "openai:text-embedding-3-small", "second": "minilm", "dimension": 512}
        answer = client.put(address, chosen)
        assert answer.status_code == 200
        assert {name: answer.json()[name] for name in chosen} == chosen
        assert client_for(viewer).get(address).json() == answer.json()
        assert client_for(viewer).put(address, {"primary": "off"}).status_code == 403
        assert client_for(user_make()).get(address).status_code == 404
        assert client.put(address, {}).json()["primary"] == ""

    def test_a_name_that_is_none_is_refused_and_changes_nothing(self, client: CheckedClient, user: User) -> None:
        project = project_make(owner=user)
        address = f"/api/vector-store/projects/{project.id}/embedders/"
        client.put(address, {"primary": "minilm"})
        for wrong in ({"primary": "nonsense"}, {"second": "a:b"}, {"primary": "minilm", "dimension": 99_999}):
            assert client.put(address, wrong).status_code == 400
        assert client.get(address).json()["primary"] == "minilm"
