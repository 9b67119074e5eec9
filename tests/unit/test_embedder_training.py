"""How the embedder is made: gradients, learning, the model's folder, and that the same seed gives the same model."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import random
from pathlib import Path

import numpy as np
import pytest

from integrations.embedders import static
from integrations.embedders.static.model import StaticModel
from tests.unit.training_archives import wheel
from training.beginning import vectors_random
from training.corpus import Corpus, corpus_make, inverse_frequencies
from training.embedder import main as embedder_main
from training.export import ModelInTheWay, model_write
from training.learning import Recipe, batch_sides, learn
from training.manifest import LIST, Package, packages_read, packages_write
from training.network import loss_and_gradients, parameters_start
from training.packages import main as packages_main
from training.pairs import Pair
from training.resembling import Evaluated

pytestmark = pytest.mark.unit

TOPICS = {
    "send": ("deliver the letter to somebody", "smtp_transport.push(envelope, recipient)"),
    "draw": ("paint a picture on screen", "canvas.stroke(brush, pixel_buffer)"),
    "save": ("keep the row for good", "database.commit(table, cursor)"),
    "parse": ("understand what was written", "tokens = lexer.consume(grammar)"),
    "sort": ("bring things into order", "compare(pivot, partition)"),
    "lock": ("let nobody else in", "mutex.acquire(thread, deadline)"),
}


def toy_corpus(pairs_each: int = 40) -> Corpus:
    """Queries that have no word in common with what answers them: only learning finds it."""
    chance = random.Random(5)
    pairs = []
    for topic, (query, code) in TOPICS.items():
        for number in range(pairs_each):
            words = query.split()
            chance.shuffle(words)
            pairs.append(Pair("python", " ".join(words), "", f"a/{topic}.py", f"F{number}.x", f"{code}\n{number}"))
    package = Package("pypi", "toy", "1", "toy.whl", "0" * 64, "MIT")
    chance.shuffle(pairs)
    return corpus_make([(package, pairs)], evaluated=Evaluated(), max_stems=500, min_count=2, tell=lambda message: None)


RECIPE = Recipe(dimension=16, epochs=40, batch=60, together=30, table_rate=0.02, seed=3)


def start_of(corpus: Corpus, recipe: Recipe = RECIPE) -> dict[str, np.ndarray]:
    vectors = vectors_random(len(corpus.stems), recipe.dimension, recipe.seed)
    return parameters_start(vectors, inverse_frequencies(corpus))


def test_gradients_are_those_that_small_steps_show() -> None:
    corpus = toy_corpus(8)
    recipe = dataclasses.replace(RECIPE, body_dropout=0.0, name_dropout=0.0)
    rows = np.arange(24)
    queries, documents = batch_sides(corpus, rows, recipe, np.random.default_rng(1))
    start = parameters_start(vectors_random(len(corpus.stems), 16, 3), inverse_frequencies(corpus), dtype=np.float64)
    numbers = corpus.query_numbers[rows].astype(np.int64)
    numbers[3] = numbers[4]  # two with the same query
    _, gradients = loss_and_gradients(start, queries, documents, numbers)
    chance = np.random.default_rng(7)
    step = 1e-5
    for name, gradient in gradients.items():
        assert np.abs(gradient).max() > 0, name
        places = np.argwhere(np.abs(gradient) > 1e-9)
        for place in places[chance.permutation(len(places))[:12]]:
            around = []
            for way in (step, -step):
                moved = {key: value.copy() for key, value in start.items()}
                moved[name][tuple(place)] += way
                around.append(loss_and_gradients(moved, queries, documents, numbers)[0])
            shown = (around[0] - around[1]) / (2 * step)
            assert gradient[tuple(place)] == pytest.approx(shown, rel=1e-3, abs=1e-7), (name, place)


def test_training_learns_which_words_mean_the_same(tmp_path: Path) -> None:
    corpus = toy_corpus()
    learnt = learn(corpus, start_of(corpus), RECIPE, state=None, tell=lambda message: None)
    model_write(learnt, corpus, tmp_path / "model", version="0", made_of={})
    model = StaticModel(tmp_path / "model")
    codes = [f"a.py x\n{code}" for _, code in TOPICS.values()]
    queries = [query for query, _ in TOPICS.values()]
    found = model.embed(queries, kind="query") @ model.embed(codes, kind="document").T
    assert found.argmax(1).tolist() == list(range(len(TOPICS)))


def toy_model(folder: Path, *, version: str = "0", seed: int = 1, made_of: dict[str, object] | None = None) -> None:
    corpus = toy_corpus(4)
    parameters = parameters_start(vectors_random(len(corpus.stems), 16, seed), inverse_frequencies(corpus))
    model_write(parameters, corpus, folder, version=version, made_of=made_of or {"seed": seed})


def test_a_model_in_use_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    toy_model(folder)
    model = StaticModel(folder)
    before = model.embed(["deliver the letter"], kind="query").copy()
    toy_model(folder, version="1", seed=2)
    assert np.array_equal(model.embed(["deliver the letter"], kind="query"), before)
    assert not np.array_equal(StaticModel(folder).embed(["deliver the letter"], kind="query"), before)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_another_model_of_the_same_version_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    toy_model(folder)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    toy_model(folder)
    with pytest.raises(ModelInTheWay, match="--model-version"):
        toy_model(folder, seed=2)
    # What people are told of it may be the same, and its numbers not.
    with pytest.raises(ModelInTheWay, match="other numbers"):
        toy_model(folder, seed=2, made_of={"seed": 1})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    toy_model(folder)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelInTheWay, match="no model's folder"):
        toy_model(folder, version="1")
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_archives_without_any_pair_are_nothing_to_learn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embedder_run(tmp_path, "--begin", "random") == 1
    assert "nothing was found to learn from" in capsys.readouterr().err
    assert not (tmp_path / "cache" / "model").exists()


def embedder_run(tmp_path: Path, *options: str) -> int:
    """Train on a list of no packages: it can but fail, and early."""
    listed = tmp_path / "packages.json"
    packages_write([], listed)
    return embedder_main(["--list", str(listed), "--cache", str(tmp_path / "cache"), *options])


def test_the_shipped_model_is_refused_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in static.FOLDER.iterdir()}
    assert embedder_run(tmp_path, "--out", str(static.FOLDER), "--begin", "random") == 1
    assert "--model-version" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in static.FOLDER.iterdir()} == before
    assert not (tmp_path / "cache").exists()


def test_without_minilm_it_says_so_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    assert embedder_run(tmp_path) == 1
    said = capsys.readouterr().err
    assert "onnxruntime" in said and "--begin random" in said
    assert not (tmp_path / "cache").exists()


def test_a_model_is_trained_from_archives_into_the_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "archives").mkdir(parents=True)
    functions = "\n\n".join(
        f'def {topic}_{name}(it):\n    """{query.capitalize()} with {name}."""\n    {code}\n    return it\n'
        for name in ("anna", "berta", "carla", "dora", "emma", "frida", "greta", "hanna")
        for topic, (query, code) in TOPICS.items()
    )
    made = wheel(cache / "archives", "shop", {"shop/all.py": functions})
    listed = tmp_path / "packages.json"
    assert packages_main([str(made), "--list", str(listed)]) == 0
    run = ["--list", str(listed), "--cache", str(cache), "--begin", "random", "--dimension", "16", "--processes", "1"]
    assert embedder_main(run) == 0
    assert StaticModel(cache / "model").version == static.VERSION
    numbers = (cache / "model" / "vectors.npy").read_bytes()
    # The same again is the same; another seed needs another version.
    assert embedder_main(run) == 0
    assert embedder_main([*run, "--seed", "2"]) == 1
    assert (cache / "model" / "vectors.npy").read_bytes() == numbers
    assert embedder_main([*run, "--seed", "2", "--model-version", "x"]) == 0
    assert StaticModel(cache / "model").version == "x"
    assert (cache / "model" / "vectors.npy").read_bytes() != numbers


def test_the_same_seed_gives_the_same_model_and_another_does_not() -> None:
    corpus = toy_corpus(20)
    one, same = (learn(corpus, start_of(corpus), RECIPE, state=None, tell=lambda message: None) for _ in range(2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    recipe = dataclasses.replace(RECIPE, seed=4)
    other = learn(corpus, start_of(corpus), recipe, state=None, tell=lambda message: None)
    assert not np.array_equal(one["table"], other["table"])


class Stopped(Exception):
    pass


def test_a_training_that_was_stopped_ends_where_it_would_have(tmp_path: Path) -> None:
    corpus = toy_corpus()
    recipe = dataclasses.replace(RECIPE, epochs=50)
    state = tmp_path / "state.npz"
    whole = learn(corpus, start_of(corpus), recipe, state=None, tell=lambda message: None)

    said = []

    def stop(message: str) -> None:
        said.append(message)
        if len(said) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        learn(corpus, start_of(corpus), recipe, state=state, tell=stop)
    assert state.exists()
    rest = learn(corpus, start_of(corpus), recipe, state=state, tell=said.append)
    assert all(np.array_equal(whole[name], rest[name]) for name in whole)


def test_the_model_the_list_and_the_card_agree() -> None:
    told = json.loads((static.FOLDER / "model.json").read_text())
    packages = packages_read()
    assert told["made_of"]["list_sha256"] == hashlib.sha256(LIST.read_bytes()).hexdigest()
    assert told["made_of"]["packages"] == sum(each.use == "train" for each in packages)
    card = (LIST.parent.parent / "docs" / "reference" / "archon-static.md").read_text()
    assert f"Version {static.VERSION}: {told['made_of']['stems']:,} stems of {static.DIMENSION} numbers" in card
    assert f"{told['made_of']['pairs']:,} pairs" in card
    for language, pairs in told["made_of"]["languages"].items():
        assert pairs < 1_000 or f"{pairs:,} " in card, language
    assert told["made_of"]["recipe"] == dataclasses.asdict(Recipe(dimension=static.DIMENSION))
