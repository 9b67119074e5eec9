"""Providers' embedders over the wire: what is asked for, who pays, and what each way of failing is told as."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from apps.core.errors import ApplicationError
from apps.projects.models import Project
from apps.usage import embedding
from apps.usage.allowances import allowance_set
from apps.usage.embedding import embedding_calls_expire
from apps.usage.errors import BudgetExceeded
from apps.usage.keys import key_owner, provider_key_store
from apps.usage.models import Allowance, Budget, KeyScope, ModelCall
from apps.usage.retry import RetryPolicy
from apps.usage.services import budget_create
from apps.usage.types import AllowanceLimits, Limits
from apps.vector_store.cache import MAX_TEXT, cache_prune
from apps.vector_store.embedders import choice_read, embedder_make
from apps.vector_store.errors import EmbedderFailed, EmbedderNotConfigured, EmbedderRefused
from apps.vector_store.models import CachedEmbedding, EmbedderRecord
from apps.vector_store.types import Payer
from tests.loopback.embed_server import EmbedServer, words_vector
from tests.loopback.json_server import Answer

from .embed_scene import all_closed, calls, embedder_at, owner_of, payer_make, project_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

TEXTS = ["def sort(users): ...", "class HttpClient: ...", "SELECT 1", "  indented = True\n"]


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(embedding, "RetryPolicy", lambda: RetryPolicy(attempts=3, base_s=0.0))
    with all_closed():
        yield


@pytest.fixture
def server(settings: Any) -> Iterator[EmbedServer]:
    with EmbedServer() as running:
        settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = running.base_url, running.api_key
        yield running


@pytest.fixture
def google(settings: Any) -> Iterator[EmbedServer]:
    with EmbedServer(protocol="gemini", dimension=3072) as running:
        settings.GEMINI_BASE_URL, settings.GEMINI_API_KEY = running.base_url, running.api_key
        yield running


@pytest.fixture
def payer() -> Payer:
    return payer_make()


def expected(texts: Sequence[str], dimension: int) -> Any:
    return np.array([words_vector(text, dimension) for text in texts])


def test_openai_is_asked_in_batches_and_paid(server: EmbedServer, payer: Payer) -> None:
    texts = [f"{text} {number}" for text in TEXTS for number in range(40)]
    embedder = embedder_at(server, payer)
    assert embedder.dimension == 1536
    assert embedder.embed(texts, kind="document") == pytest.approx(expected(texts, 1536), abs=1e-3)
    assert server.refused == []
    assert sorted(len(asked.body["input"]) for asked in server.asked) == [32, 64, 64]
    assert [(call.state, call.role, call.provider, call.model) for call in calls()] == [
        ("settled", "embedder", "openai", "text-embedding-3-small")
    ] * 3
    assert sum(call.input_tokens for call in calls()) == server.tokens
    budget = Budget.objects.get()
    assert (budget.project_id, budget.user_id) == (payer.project_id, payer.user_id)
    assert budget.spent_cost_usd == sum(call.cost_usd for call in calls()) > 0
    assert not (budget.reserved_cost_usd or budget.reserved_tokens or budget.reserved_steps)


def test_google_is_told_what_a_text_is_for(google: EmbedServer, payer: Payer) -> None:
    embedder = embedder_at(google, payer, model="gemini-embedding-001", dimension=768)
    assert embedder.embed(TEXTS, kind="document") == pytest.approx(expected(TEXTS, 768), abs=1e-3)
    assert embedder.embed(["sort users"], kind="query") == pytest.approx(expected(["sort users"], 768), abs=1e-3)
    assert google.kinds == ["RETRIEVAL_DOCUMENT", "CODE_RETRIEVAL_QUERY"]
    assert google.refused == []
    assert sum(call.input_tokens for call in calls()) == google.tokens
    assert Budget.objects.get().spent_cost_usd > 0


def test_nothing_is_embedded_twice(server: EmbedServer, payer: Payer) -> None:
    embedder_at(server, payer).embed(TEXTS + TEXTS[:2], kind="document")
    again = embedder_at(server, payer_make()).embed([*TEXTS[::-1], "one more"], kind="document")
    assert again == pytest.approx(expected([*TEXTS[::-1], "one more"], 1536), abs=1e-3)
    assert server.texts == [*TEXTS, "one more"]


def test_what_was_embedded_before_a_failure_is_kept(server: EmbedServer, payer: Payer) -> None:
    texts = [f"text {number}" for number in range(100)]
    server.instead = lambda asked: Answer(500, {"error": {"message": "no"}}) if texts[70] in asked else None
    with pytest.raises(EmbedderFailed):
        embedder_at(server, payer).embed(texts, kind="document")
    server.instead = None
    embedder_at(server, payer).embed(texts, kind="document")
    assert sorted(server.texts) == sorted(texts)


def test_a_shorter_vector_is_another_embedder(server: EmbedServer, payer: Payer) -> None:
    whole, shorter = embedder_at(server, payer), embedder_at(server, payer, dimension=256)
    assert (whole.dimension, shorter.dimension) == (1536, 256)
    assert whole.key != shorter.key
    assert shorter.embed(TEXTS, kind="document").shape == (4, 256)
    assert server.asked[-1].body["dimensions"] == 256


def test_the_length_of_an_unknown_models_vectors_is_learnt_once(server: EmbedServer, payer: Payer) -> None:
    server.dimension = 768
    assert embedder_at(server, payer, model="nomic-embed-text:v1.5").dimension == 768
    embedder = embedder_at(server, payer, model="nomic-embed-text:v1.5")
    assert embedder.dimension == 768
    assert server.texts == ["dimension"]
    assert embedder.key == EmbedderRecord.objects.get().key
    assert embedder.embed(TEXTS, kind="document").shape == (4, 768)


def test_any_endpoint_of_the_protocol_serves_without_a_key(settings: Any, payer: Payer) -> None:
    with EmbedServer(dimension=384, api_key="", with_usage=False) as ollama:
        settings.OLLAMA_BASE_URL = ollama.base_url
        embedder = embedder_make(choice_read("ollama:all-minilm"), payer)
        assert embedder.embed(TEXTS, kind="document").shape == (4, 384)
        other = embedder_make(choice_read(f"openai:all-minilm@{ollama.base_url}"), payer)
        assert other.embed(TEXTS, kind="document").shape == (4, 384)
        assert ollama.refused == []
    assert embedder.key != other.key
    assert all(call.estimated and call.input_tokens > 0 for call in calls())


def test_an_address_that_the_operator_did_not_allow_is_refused(settings: Any, payer: Payer) -> None:
    settings.ARCHON_MODEL_BASE_URLS = []
    with pytest.raises(ApplicationError, match="not allowed") as caught:
        embedder_make(choice_read("openai:m@http://127.0.0.1:1/v1"), payer)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "name", ["", "minilm2", "openai", "openai:", "anthropic:claude-sonnet-5", "scripted:x", "no:such", "a b:c"]
)
def test_a_name_that_is_no_embedders_is_refused(name: str) -> None:
    with pytest.raises(EmbedderRefused) as caught:
        choice_read(name)
    assert "minilm" in caught.value.next_step


def test_without_a_key_it_is_told_which_is_missing(payer: Payer) -> None:
    with pytest.raises(ApplicationError, match="no key for openai") as caught:
        embedder_make(choice_read("openai:text-embedding-3-small"), payer)
    assert caught.value.code == "model_not_configured"
    assert "OPENAI_API_KEY" in caught.value.next_step


def test_off_and_nobody_who_pays_are_told() -> None:
    with pytest.raises(EmbedderNotConfigured):
        embedder_make(choice_read("off"), None)
    with pytest.raises(EmbedderRefused, match="who pays"):
        embedder_make(choice_read("openai:text-embedding-3-small"), None)


def test_the_projects_own_key_is_used(server: EmbedServer, payer: Payer, settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-of-the-operator"
    user = owner_of(payer)
    owned = key_owner(user=user, scope=KeyScope.PROJECT, project_id=payer.project_id)
    provider_key_store(user=user, owner=owned, vendor="openai", secret=server.api_key)
    embedder_at(server, payer).embed(TEXTS, kind="document")
    with pytest.raises(EmbedderFailed):
        embedder_at(server, payer_make()).embed(["another text"], kind="document")


RAW: dict[str, tuple[Answer, str, str]] = {
    "key": (Answer(401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}), "key_refused", "key"),
    "quota": (Answer(429, {"error": {"message": "exceeded", "code": "insufficient_quota"}}), "quota", "credit"),
    "unknown": (Answer(404, {"error": {"message": "no such model", "code": "model_not_found"}}), "not_found", "name"),
    "page": (Answer(200, b"<html>", (("content-type", "text/html"),)), "bad_response", "base URL"),
    "no json": (Answer(200, b"{"), "bad_response", "base URL"),
    "no vectors": (Answer(200, {"data": []}), "bad_response", "base URL"),
    "null": (Answer(200, {"data": [{"index": 0, "embedding": None}]}), "bad_response", "base URL"),
    "twice": (Answer(200, {"data": [{"index": 0, "embedding": [1.0]}] * 2}), "bad_response", "base URL"),
    "not numbers": (Answer(200, {"data": [{"index": 0, "embedding": ["a"] * 1536}]}), "bad_response", "base URL"),
    "nothing": (Answer(200, {"data": [{"index": 0, "embedding": [0.0] * 1536}]}), "bad_response", "base URL"),
    "nan": (Answer(200, b'{"data": [{"index": 0, "embedding": [' + b"NaN," * 1535 + b"1]}]}"), "bad_response", "URL"),
    "dimension": (Answer(200, {"data": [{"index": 0, "embedding": [1.0] * 7}]}), "dimension", "ARCHON_EMBEDDER"),
    "down": (Answer(503, {"error": {"message": "overloaded"}}), "down", "later"),
    "an error that looks well": (Answer(200, {"error": {"message": "no", "code": 429}}), "rate_limited", "Wait"),
}


@pytest.mark.parametrize("case", RAW)
def test_what_goes_wrong_is_told_for_what_it_is(case: str, server: EmbedServer, payer: Payer) -> None:
    answer, kind, step = RAW[case]
    server.instead = lambda texts: answer
    with pytest.raises(EmbedderFailed) as caught:
        embedder_at(server, payer).embed(["one"], kind="document")
    assert caught.value.kind == kind
    assert step in caught.value.next_step
    assert server.api_key not in caught.value.message
    assert CachedEmbedding.objects.count() == 0
    assert {call.state for call in calls()} == {"failed"}
    budget = Budget.objects.get()
    assert not (budget.reserved_cost_usd or budget.reserved_tokens)


def test_nobody_there_is_told(server: EmbedServer, payer: Payer) -> None:
    embedder = embedder_at(server, payer)
    server.stop()
    with pytest.raises(EmbedderFailed, match="no connection") as caught:
        embedder.embed(["one"], kind="query")
    assert (caught.value.kind, caught.value.retryable) == ("down", True)
    server.stop = lambda: None  # type: ignore[method-assign]


def test_a_rate_limit_is_waited_for(server: EmbedServer, payer: Payer) -> None:
    answers: list[Answer | None] = [
        Answer(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, (("retry-after", "0.05"),)),
        Answer(500, {"error": {"message": "oh"}}),
        None,
    ]
    server.instead = lambda texts: answers.pop(0)
    assert embedder_at(server, payer).embed(["one"], kind="document").shape == (1, 1536)
    assert [call.state for call in calls()] == ["failed", "failed", "settled"]


def test_a_question_is_not_waited_for_long(server: EmbedServer, payer: Payer) -> None:
    limit = Answer(429, {"error": {"message": "slow down"}}, (("retry-after", "30"),))
    server.instead = lambda texts: limit
    with pytest.raises(EmbedderFailed) as caught:
        embedder_at(server, payer).embed(["one"], kind="query")
    assert (caught.value.kind, caught.value.retry_after) == ("rate_limited", 30.0)
    assert len(calls()) == 1


def test_texts_that_are_too_long_are_cut_and_the_others_are_not(server: EmbedServer, payer: Payer) -> None:
    server.max_characters = 3_000
    texts = ["short", "word " * 2_000, "middle " * 300, "y" * 30_000]
    vectors = embedder_at(server, payer).embed(texts, kind="document")
    assert vectors.shape == (4, 1536)
    assert {len(text) for text in server.texts} == {5, 2_500, 2_100}
    assert vectors[2] == pytest.approx(expected([texts[2]], 1536)[0], abs=1e-3)
    assert all(len(text) <= MAX_TEXT for asked in server.asked for text in asked.body["input"])


def test_a_model_that_reads_next_to_nothing_is_told(server: EmbedServer, payer: Payer) -> None:
    server.max_characters = 50
    with pytest.raises(EmbedderFailed) as caught:
        embedder_at(server, payer).embed(["word " * 200], kind="document")
    assert caught.value.kind == "too_long"


def test_odd_texts_go_out_as_the_protocol_has_them(server: EmbedServer, payer: Payer) -> None:
    texts = ["", "   ", "a\x00b", "\ud83d half", "\u2028"]
    assert embedder_at(server, payer).embed(texts, kind="document").shape == (5, 1536)
    assert server.refused == []


class TestLimits:
    def test_a_projects_limit_holds(self, server: EmbedServer, payer: Payer) -> None:
        limits = AllowanceLimits(total=Limits(cost_usd=Decimal("0.000001")))
        allowance_set(scope="project", owner_id=payer.project_id, limits=limits)
        with pytest.raises(BudgetExceeded) as caught:
            embedder_at(server, payer).embed(["words " * 100], kind="document")
        assert (caught.value.scope, caught.value.limit) == ("project", "cost_usd")
        assert server.asked == []

    def test_a_users_limit_counts_what_was_embedded(self, server: EmbedServer, payer: Payer) -> None:
        assert payer.user_id is not None
        allowance_set(scope="user", owner_id=payer.user_id, limits=AllowanceLimits(total=Limits(tokens=60)))
        embedder = embedder_at(server, payer)
        embedder.embed(["words"], kind="document")
        assert Allowance.objects.get(user_id=payer.user_id).spent_tokens == server.tokens
        with pytest.raises(BudgetExceeded):
            embedder.embed(["more words " * 20], kind="document")

    def test_a_sessions_limit_holds(self, server: EmbedServer, payer: Payer) -> None:
        state = budget_create(
            scope_id=payer.project_id, project=project_of(payer), user=None, limits=Limits(tokens=2_000, steps=1)
        )
        within = Payer(project_id=payer.project_id, user_id=payer.user_id, scope_id=state.scope_id)
        embedder = embedder_at(server, within)
        embedder.embed(["one"], kind="query")
        with pytest.raises(BudgetExceeded) as caught:
            embedder.embed(["two"], kind="query")
        assert (caught.value.scope, caught.value.limit) == ("session", "steps")
        assert ModelCall.objects.get().budget_id == state.scope_id

    def test_the_close_count_is_held_where_the_ceiling_does_not_fit(self, server: EmbedServer, payer: Payer) -> None:
        text = "words " * 100
        budget_create(
            scope_id=payer.project_id, project=project_of(payer), user=None, limits=Limits(tokens=len(text) * 2 // 3)
        )
        within = Payer(project_id=payer.project_id, scope_id=payer.project_id)
        assert embedder_at(server, within).embed([text], kind="document").shape == (1, 1536)

    def test_what_a_dead_process_held_counts_as_spent(self, server: EmbedServer, payer: Payer) -> None:
        embedder_at(server, payer).embed(["one"], kind="document")
        call = ModelCall.objects.get()
        ModelCall.objects.filter(id=call.id).update(state="reserved", started_at="2020-01-01T00:00:00Z")
        Budget.objects.update(
            reserved_steps=1,
            reserved_tokens=call.reserved_input_tokens,
            reserved_cost_usd=call.reserved_cost_usd,
        )
        assert embedding_calls_expire() == 1
        assert embedding_calls_expire() == 0
        assert ModelCall.objects.get().state == "lost"
        assert Budget.objects.get().reserved_tokens == 0

    def test_the_operators_rate_holds(
        self, server: EmbedServer, payer: Payer, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.ARCHON_PROVIDER_LIMITS = {"openai": (1, None)}
        monkeypatch.setattr("apps.usage.provider_rates.PATIENCE_SECONDS", 0.5)
        embedder = embedder_at(server, payer)
        embedder.embed(["one"], kind="query")
        with pytest.raises(EmbedderFailed) as caught:
            embedder.embed(["two"], kind="query")
        assert caught.value.kind == "rate_limited"
        assert "ARCHON_PROVIDER_LIMITS" in caught.value.message


class TestCache:
    def test_what_was_not_asked_for_the_longest_goes_first(
        self, server: EmbedServer, payer: Payer, settings: Any
    ) -> None:
        def dense(texts: Sequence[str]) -> Answer:
            # As those of a real model, which take on the disk what they are long.
            server.texts += texts
            rows = np.random.default_rng(len(server.texts)).normal(size=(len(texts), 1536)).tolist()
            return Answer(200, {"data": [{"index": place, "embedding": row} for place, row in enumerate(rows)]})

        server.instead = dense
        embedder = embedder_at(server, payer)
        embedder.embed([f"text {number}" for number in range(600)], kind="document")
        assert cache_prune() == 0
        CachedEmbedding.objects.update(used_on="2020-01-01")
        embedder.embed(["text 1", "text 2"], kind="document")
        settings.ARCHON_EMBEDDING_CACHE_MB = 1
        assert cache_prune() > 0
        sizes = [len(row.vector) for row in CachedEmbedding.objects.all()]
        assert 0 < sum(sizes) <= 1024 * 1024
        before = len(server.texts)
        embedder.embed(["text 1", "text 2"], kind="document")
        assert len(server.texts) == before

    def test_a_question_is_not_taken_for_a_document(self, google: EmbedServer, payer: Payer) -> None:
        embedder = embedder_at(google, payer, model="gemini-embedding-001")
        embedder.embed(["same"], kind="document")
        embedder.embed(["same"], kind="query")
        assert len(google.kinds) == 2


def test_a_projects_end_takes_its_spending_along(server: EmbedServer, payer: Payer) -> None:
    embedder_at(server, payer).embed(["one"], kind="document")
    Project.objects.filter(id=payer.project_id).delete()
    assert Budget.objects.count() == 0
    with pytest.raises(ApplicationError):
        embedder_at(server, payer).embed(["two"], kind="document")


def test_requests_are_what_the_protocol_says(server: EmbedServer, payer: Payer) -> None:
    embedder_at(server, payer).embed(["one"], kind="document")
    (asked,) = server.asked
    assert json.loads(json.dumps(asked.body)) == {
        "model": "text-embedding-3-small",
        "input": ["one"],
        "encoding_format": "float",
    }
