"""Hybrid search out of words, the embedder that is there without a setting, and one more where it is switched on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connection

from apps.context.models import CodeChunk
from apps.context.searching.fusion import kind_weights
from apps.context.vectors import vectors_fill
from apps.vector_store import embedders, spaces
from apps.vector_store.indexes.pgvector import TABLE
from apps.vector_store.models import EmbedderRecord, VectorSpace
from apps.vector_store.spaces import status_get
from integrations.embedders import static
from tests.loopback.embed_server import EmbedServer
from tests.loopback.json_server import Answer

from .context_scene import FILES, Code, code_make
from .embed_scene import all_closed

pytestmark = pytest.mark.django_db(transaction=True)

STATIC_KEY = f"local:{static.MODEL}:{static.VERSION}:{static.DIMENSION}"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    with all_closed():
        yield


@pytest.fixture
def server(settings: Any) -> Iterator[EmbedServer]:
    with EmbedServer(dimension=64) as running:
        settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = running.base_url, running.api_key
        settings.ARCHON_EMBEDDER_SECOND, settings.ARCHON_EMBEDDER_DIMENSION = "openai:text-embedding-3-small", 64
        yield running
        assert running.refused == []


@pytest.fixture
def code(tmp_path: Path) -> Code:
    made = code_make(tmp_path)
    made.index()
    return made


def test_without_a_setting_code_is_found_by_meaning(code: Code) -> None:
    assert configured.ARCHON_EMBEDDER == static.MODEL
    assert vectors_fill(project_id=code.project.id) == "ready"
    found = code.search("splitting headers into keys and values", "vector")
    assert (found.hits[0].symbol, found.index.vectors, found.notes) == ("parseHTTPHeader", "ready", ())
    hit = code.search("parse header line", "hybrid", explain=True).hits[0]
    assert hit.symbol == "parseHTTPHeader"
    assert (hit.scores["text_weight"], hit.scores["vector_weight"]) == (0.3, 0.7)
    assert hit.scores["vector_embedder"] == STATIC_KEY
    assert hit.scores["terms"]
    assert hit.score == pytest.approx(0.3 * hit.scores["text_scaled"] + 0.7 * hit.scores["vector_scaled"], abs=1e-4)
    assert code.search("parse header line", "hybrid").hits[0].scores == {}


def test_a_third_signal_is_told_with_the_others(code: Code, server: EmbedServer) -> None:
    vectors_fill(project_id=code.project.id)
    found = code.search("parse header line", "hybrid", explain=True)
    assert found.notes == ()
    scores = found.hits[0].scores
    for name in ("text", "vector", "second"):
        assert scores[f"{name}_weight"] == pytest.approx(1 / 3, abs=1e-4)
        assert 0 <= scores[f"{name}_scaled"] <= 1
    assert scores["vector_embedder"] == STATIC_KEY
    assert scores["second_embedder"].startswith("openai:text-embedding-3-small")
    # By meaning alone both embedders are asked.
    meant = code.search("parse header line", "vector", explain=True).hits[0].scores
    assert (meant["vector_weight"], meant["second_weight"]) == (0.5, 0.5)
    assert "text_weight" not in meant


def test_while_the_third_fills_it_counts_where_it_is(
    code: Code, server: EmbedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no second vector yet is judged by the others, and not as if it were far from the question."""
    monkeypatch.setattr(spaces, "texts_batch", lambda record: 1)
    rounds = iter(range(1_000))

    def stop() -> bool:
        # Not before the first embedder is through, whose chunks are as many.
        return status_get(code.project.id, "primary").state == "ready" and next(rounds) >= 1

    vectors_fill(project_id=code.project.id, stop=stop)
    assert status_get(code.project.id, "second").state == "filling"
    found = code.search("parse header line greet person zebra", "hybrid", explain=True, limit=20)
    told = [hit.scores for hit in found.hits]
    assert {"second_weight" in scores for scores in told} == {True, False}
    assert all("vector_weight" in scores for scores in told)
    for hit in found.hits:
        weighed = [
            (hit.scores[f"{name}_weight"], hit.scores[f"{name}_scaled"])
            for name in ("text", "vector", "second")
            if f"{name}_weight" in hit.scores
        ]
        mean = sum(weight * scaled for weight, scaled in weighed) / sum(weight for weight, _ in weighed)
        assert hit.score == pytest.approx(mean * hit.scores.get("kind_weight", 1), abs=1e-3)
    assert any("still being filled in" in note for note in found.notes)
    vectors_fill(project_id=code.project.id)
    found = code.search("parse header line greet person zebra", "hybrid", explain=True, limit=20)
    assert found.notes == () and all("second_weight" in hit.scores for hit in found.hits)


def test_a_third_signal_that_is_away_leaves_the_other_two(code: Code, server: EmbedServer) -> None:
    vectors_fill(project_id=code.project.id)
    server.instead = lambda texts: Answer(503, {"error": {"message": "overloaded"}})
    found = code.search("a header nobody asked for before", "hybrid", explain=True)
    assert found.hits and "second_weight" not in found.hits[0].scores
    assert found.hits[0].scores["text_weight"] == 0.3
    assert any("second embedder" in note and "503" in note for note in found.notes)


def test_the_first_vectors_do_not_wait_for_the_third(code: Code, server: EmbedServer) -> None:
    server.instead = lambda texts: Answer(503, {"error": {"message": "overloaded"}})
    assert vectors_fill(project_id=code.project.id) == "ready"
    assert status_get(code.project.id, "second").state == "stopped"
    assert code.search("welcome a human", "hybrid").hits


def test_a_word_that_the_embedder_does_not_know_is_found_by_itself(tmp_path: Path) -> None:
    files = {**FILES, "codes.py": "def refuse(answer):\n    answer.status = 404  # не найдено\n    return answer\n"}
    code = code_make(tmp_path, files)
    code.index()
    vectors_fill(project_id=code.project.id)
    for query in ("404", "не найдено"):
        found = code.search(query, "hybrid", explain=True)
        assert found.hits[0].symbol == "refuse"
        assert "vector_weight" not in found.hits[0].scores
        assert any(STATIC_KEY in note for note in found.notes)
        assert code.search(query, "vector").hits == ()


STORES = """class SessionStore:
    expiry = 3600
    backend = 'database'

    def load_session(self, key):
        return self.rows.get(key)

    def save_session(self, key, rows):
        self.rows[key] = rows
        return key


class SessionStoreError(Exception):
    code = 'session'


def session_store_of(settings):
    store = SessionStore()
    store.settings = settings
    return store
"""


def test_classes_count_by_what_is_asked_and_a_class_is_found_by_its_name(tmp_path: Path) -> None:
    code = code_make(tmp_path, {**FILES, "store.py": STORES})
    code.index()
    vectors_fill(project_id=code.project.id)
    for mode in ("hybrid", "vector", "text"):
        for name in ("SessionStore", "class SessionStore"):
            hit = code.search(name, mode, explain=True).hits[0]
            assert (hit.symbol, hit.kind) == ("SessionStore", "class"), (mode, name)
        assert code.search("Base class that stores a session", mode).hits[0].kind == "class"
        assert code.search("Return the session of a key", mode).hits[0].kind == "method"
    for query in ("Base class that stores a session", "Return the session of a key"):
        told = [hit for hit in code.search(query, "hybrid", explain=True).hits if hit.kind == "class"]
        assert told and {hit.scores["kind_weight"] for hit in told} == {kind_weights(query)["class"]}
        for hit in told:
            sums = sum(hit.scores[f"{name}_weight"] * hit.scores[f"{name}_scaled"] for name in ("text", "vector"))
            assert hit.score == pytest.approx(sums * hit.scores["kind_weight"], abs=1e-4)


def test_one_embedder_in_both_places_is_one(code: Code, settings: Any) -> None:
    settings.ARCHON_EMBEDDER_SECOND = static.MODEL
    assert spaces.projects_lacking([code.project.id]) == [code.project.id]
    vectors_fill(project_id=code.project.id)
    assert status_get(code.project.id, "second").state == "off"
    assert spaces.projects_lacking([code.project.id]) == []
    assert "second_weight" not in code.search("parse header", "hybrid", explain=True).hits[0].scores


def test_changed_code_has_its_first_vectors_before_all_the_second_ones(
    code: Code, server: EmbedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever fills the second ones for an hour sees that there is something new, whichever process read it."""
    monkeypatch.setattr(spaces, "texts_batch", lambda record: 1)
    before = CodeChunk.objects.count()
    seen: list[tuple[int, int]] = []

    def look() -> bool:
        primary, second = spaces.statuses(code.project.id)
        if second.vectors == 1 and not any(of_second for _, of_second in seen):
            code.commit({"weather.py": "def forecast_rain(town):\n    return SKY[town].clouds > 3\n"})
            code.index()
        seen.append((primary.vectors, second.vectors))
        return False

    assert vectors_fill(project_id=code.project.id, stop=look) == "ready"
    primary, second = spaces.statuses(code.project.id)
    added = CodeChunk.objects.count() - before
    assert added and primary.vectors == second.vectors == before + added
    assert min(of_second for of_primary, of_second in seen if of_primary == before + added) == 2


def test_after_an_upgrade_the_old_model_serves_until_the_new_ones_vectors_are_there(
    code: Code, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two versions of our own model: the key differs, all is embedded anew behind, and no search goes without."""
    vectors_fill(project_id=code.project.id)
    before = [hit.symbol for hit in code.search("parse header line", "vector").hits]
    newer = _newer_model(tmp_path)
    monkeypatch.setitem(embedders.LOCAL_MODELS, static.MODEL, newer)
    assert spaces.projects_due() == [code.project.id]
    assert [hit.symbol for hit in code.search("parse header line", "vector").hits] == before
    # Broken off in the middle, with changed code in between.
    monkeypatch.setattr(spaces, "texts_batch", lambda record: 1)
    vectors_fill(project_id=code.project.id, stop=lambda: True)
    status = status_get(code.project.id, "primary")
    assert (status.state, status.embedder_key, status.filling_key) == ("refilling", STATIC_KEY, newer.key)
    code.commit({"weather.py": "def forecast_rain(town):\n    return SKY[town].clouds > 3\n"})
    code.index()
    vectors_fill(project_id=code.project.id, stop=lambda: True)
    assert [hit.symbol for hit in code.search("parse header line", "vector").hits][:2] == before[:2]
    assert vectors_fill(project_id=code.project.id) == "ready"
    assert status_get(code.project.id, "primary").embedder_key == newer.key
    found = code.search("will there be rain in a town", "hybrid", explain=True).hits[0]
    assert (found.symbol, found.scores["vector_embedder"]) == ("forecast_rain", newer.key)
    # The copy of the old model goes with its vectors, that of the new one stays for the next upgrade.
    copies = configured.ARCHON_HOME / "embedders"
    assert len(list(copies.iterdir())) == 2
    # One that was just made may be about to be used.
    (copies / ".new-half").mkdir()
    assert spaces.models_forget() == 0
    for folder in copies.iterdir():
        os.utime(folder, (0, 0))
    assert spaces.models_forget() == 2
    assert [folder.name for folder in copies.iterdir()] == [newer.key.replace(":", "-")]


def test_without_a_copy_of_the_old_model_words_serve_and_the_reason_is_told(
    code: Code, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors_fill(project_id=code.project.id)
    VectorSpace.objects.update(embedder=_record_of_another_version())
    found = code.search("parse header line", "hybrid")
    assert found.hits[0].symbol == "parseHTTPHeader"
    assert any("embedded anew" in note or "another embedder" in note for note in found.notes)
    assert vectors_fill(project_id=code.project.id) == "ready"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(DISTINCT namespace_id) FROM {TABLE}")
        assert cursor.fetchone()[0] >= 1
    assert status_get(code.project.id, "primary").embedder_key == STATIC_KEY


def _newer_model(folder: Path) -> embedders.LocalModel:
    """The model of the next version, as an upgrade would bring it: the same table with its numbers turned round."""
    import json
    import shutil
    from dataclasses import replace

    import numpy as np

    from integrations.embedders.static.model import StaticModel

    target = folder / "newer"
    shutil.copytree(static.FOLDER, target)
    np.save(target / "vectors.npy", np.ascontiguousarray(np.load(target / "vectors.npy")[:, ::-1]))
    description = json.loads((target / "model.json").read_text("utf-8"))
    (target / "model.json").write_text(json.dumps({**description, "version": "next"}), "utf-8")
    model = StaticModel(target)
    return replace(
        embedders.LOCAL_MODELS[static.MODEL],
        version="next",
        folder=lambda: target,
        engine=lambda kind: static.Engine(model, kind),
    )


def _record_of_another_version() -> EmbedderRecord:
    return EmbedderRecord.objects.create(
        key=f"local:{static.MODEL}:before:{static.DIMENSION}", name=static.MODEL, dimension=static.DIMENSION
    )
