"""How the embedder is made: pairs, gradients, learning, and that the same seed gives the same model."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.context.searching.asked import asked_read
from integrations.embedders import static
from integrations.embedders.static.model import StaticModel
from training import kinds
from training.archives import UnreadableArchive, archive_about
from training.beginning import vectors_random
from training.corpus import Corpus, corpus_make, corpus_read, corpus_write, inverse_frequencies
from training.embedder import main as embedder_main
from training.export import ModelInTheWay, model_write
from training.grammar_pairs import file_undocumented, grammar_pairs
from training.learning import Recipe, batch_sides, learn
from training.licences import debian_licence, is_permitted, npm_licence, wheel_licence
from training.manifest import LIST, FetchFailed, Package, package_fetch, packages_read, packages_write
from training.mining import LicenceDiffers, package_mine, pairs_file, pairs_read, uses_evaluated
from training.network import loss_and_gradients, parameters_start
from training.packages import main as packages_main
from training.pairs import Pair, first_sentence, prose_of
from training.python_pairs import python_pairs
from training.questions import main as questions_main
from training.ranking import Bm25, figures, fused, ranks
from training.resembling import Evaluated, code_sample, samples_agree

pytestmark = pytest.mark.unit

PYTHON = '''class Basket(Base):
    """What a customer has chosen so far."""

    limit = 3

    def add(self, item):
        """Put one more item into it.

        Longer words follow here, that say a good deal more of what it does and for whom it does so.

        Args:
            item: what to add
        """
        self.items.append(item)
        return len(self.items)

    def short(self):
        """Say nothing of any interest here."""
        return 1
'''
TYPESCRIPT = """import { a } from "b";

/** Draws the whole scene once. */
export class Renderer {
  /**
   * Uploads a texture to the card, if it changed.
   * @param texture which one
   */
  upload(texture: Texture) {
    // not a doc comment
    this.gl.bind(texture);
    return texture.id;
  }
}
"""
GO = """package store

// Open returns a store that keeps its rows in the
// folder. It fails where there is none.
func Open(folder string) (*Store, error) {
    rows := load(folder)
    return &Store{rows}, nil
}
"""


def test_pairs_of_python_have_no_docstring() -> None:
    pairs = {pair.qualified_name: pair for pair in python_pairs(path="shop/basket.py", content=PYTHON.encode())}
    assert set(pairs) == {"Basket", "Basket.add"}
    assert pairs["Basket.add"].query == "Put one more item into it."
    assert "Longer words" in pairs["Basket.add"].prose and "Args" not in pairs["Basket.add"].prose
    assert '"""' not in pairs["Basket.add"].text and "self.items.append(item)" in pairs["Basket.add"].text
    # Of its methods a class has only how they begin.
    assert "def add" in pairs["Basket"].text and "append" not in pairs["Basket"].text


@pytest.mark.parametrize("content", [b"def broken(:\n  pass", b"\x00\x00", b"\xff\xfe\xff", b"(" * 5_000, b""])
def test_python_that_cannot_be_parsed_has_no_pairs(content: bytes) -> None:
    assert list(python_pairs(path="a.py", content=content)) == []


def test_pairs_of_other_languages_have_no_doc_comment() -> None:
    (upload,) = grammar_pairs(path="src/renderer.ts", content=TYPESCRIPT.encode())
    assert (upload.language, upload.qualified_name) == ("typescript", "Renderer.upload")
    assert upload.query == "Uploads a texture to the card, if it changed."
    assert "Uploads" not in upload.text and "not a doc comment" in upload.text
    (opened,) = grammar_pairs(path="store/open.go", content=GO.encode())
    # The name that Go's comments begin with would give the answer away.
    assert opened.query == "returns a store that keeps its rows in the folder"
    assert "keeps its rows" not in opened.text


def test_a_file_without_its_doc_comments_keeps_everything_else() -> None:
    made = file_undocumented(path="src/renderer.ts", content=TYPESCRIPT.encode())
    assert made.questions == (
        ("Draws the whole scene once.", "Renderer"),
        ("Uploads a texture to the card, if it changed.", "Renderer.upload"),
    )
    gone = set(TYPESCRIPT.splitlines()) - set(made.content.splitlines())
    assert all(line.strip().startswith(("/**", "*")) for line in gone) and len(gone) == 5


@pytest.mark.parametrize(
    ("comment", "name", "expected"),
    [
        ("Foo returns the bar of it. And more.", "Foo", "returns the bar of it"),
        ("Gets the {@link Bar thing} of <b>it</b>\n\n@returns x", "foo", "Gets the Bar thing of it"),
        ("@param x what it is", "foo", ""),
    ],
)
def test_first_sentence(comment: str, name: str, expected: str) -> None:
    assert first_sentence(comment, name=name) == expected


def test_prose_that_says_no_more_than_the_query_is_none() -> None:
    assert prose_of("Put it there.\n\nNow.", "Put it there.") == ""


@pytest.mark.parametrize(
    ("licence", "permitted"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("OSI Approved :: BSD License", True),
        ("", False),
        ("LGPL-2.1-only", False),
        ("Apache-2.0 OR GPL-2.0-or-later", False),
        ("GNU General Public License v3", False),
        ("Proprietary", False),
        ("Whatever", False),
        ("MIT AND Whatever", False),
        ("MIT OR <unknown>", False),
        ("MIT License AND Copyright 2020 Someone", False),
        ("Apache License, Version 2.0", True),
        ("Apache Software License (Apache 2.0)", True),
        ("MIT No Attribution License (MIT-0)", True),
        ("Apache-2.0 WITH LLVM-exception or Apache-2.0 or MIT", True),
        ("The Unlicense (Unlicense)", True),
        ("BSD-like", False),
        ("MIT (with what we add)", False),
        ("(MIT or Whatever) AND MIT", False),
        ("Limited MITigation", False),
    ],
)
def test_licences(licence: str, permitted: bool) -> None:
    assert is_permitted(licence) is permitted


def test_licences_are_read_as_they_are_stated() -> None:
    assert wheel_licence("Name: a\nLicense-Expression: MIT\nLicense: x\n\nLicense: GPL") == "MIT"
    classified = "Name: a\nLicense: Copyright of someone\nClassifier: License :: OSI Approved :: BSD License\n"
    assert wheel_licence(classified) == "BSD License"
    assert wheel_licence("Name: a\nLicense: Apache 2.0\n") == "Apache 2.0"
    assert npm_licence('{"license": {"type": "ISC"}}') == "ISC"
    assert npm_licence("{}") == ""
    copyright_file = "Files: *\nCopyright: x\nLicense: Expat\n text\n\nFiles: debian/*\nLicense: GPL-2+\n"
    assert debian_licence(copyright_file) == "Expat"


def test_no_licence_of_a_debian_package_is_overlooked() -> None:
    many = "".join(f"Files: src/a{number}/*\nLicense: Expat{' ' * number}\n text\n\n" for number in range(20))
    long = "".join(
        f"Files: src/b{number}/*\nLicense: BSD-{number}-clause-and-words-that-are-many\n\n" for number in range(20)
    )
    for said, permitted in [
        (many, True),
        (many + "Files: src/core/*\nLicense: GPL-2+\n", False),
        (long + "Files: src/core/*\nLicense: GPL-2+\n", False),
        (many + "Files: debian/* src/core/*\nLicense: GPL-2+\n", False),
        (many + "Files: debian/*\n src/core/*\nLicense: GPL-2+\n", False),
        (many + "Files:\n debian/*\n debian/more\nLicense: GPL-2+\n", True),
        (many + "Files: src/core/*\nCopyright: someone\n", False),
        (many + "Files: src/core/*\nCopyright: someone\n\nLicense: GPL-2+\n text\n", False),
        (many + "Files: src/core/*\nCopyright: someone\n\nLicense: MIT\n text\n\nLicense: GPL-2+\n text\n", True),
        (many + "Files: a/*\n\nFiles: b/*\nLicense: MIT\n", False),
        (many + " \nFiles: src/core/*\nlicense: GPL-2+\n", False),
    ]:
        assert is_permitted(debian_licence(said)) is permitted, said[-80:]
    assert "GPL-2+" in debian_licence(long + "Files: src/core/*\nLicense: GPL-2+\n")


def test_an_archive_of_another_licence_than_the_list_says_is_not_learnt_from(tmp_path: Path) -> None:
    made = wheel(tmp_path, "shop", {"shop/basket.py": PYTHON}, licence="GPL-3.0-only")
    package = Package("pypi", "shop", "1.0", made.name, "0" * 64, "MIT")
    with pytest.raises(LicenceDiffers, match="GPL-3"):
        package_mine(package, made, tmp_path / "pairs")
    assert not pairs_file(package, tmp_path / "pairs").exists()


def test_the_list_of_packages_is_complete() -> None:
    packages = packages_read()
    assert len({(each.registry, each.name) for each in packages}) == len(packages) > 50
    for each in packages:
        assert is_permitted(each.licence), each.name
        assert len(each.sha256) == 64 and each.version and "/" not in each.file
    held_out = {each.name for each in packages if each.use == "evaluate"}
    assert "django" in held_out
    assert not [each.name for each in packages if "django" in each.name and each.use == "train"]


def wheel(folder: Path, name: str, files: dict[str, str], licence: str = "MIT") -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.0\nLicense-Expression: {licence}\n\n"
        )
    return path


def test_archives_are_put_on_the_list_and_read_once(tmp_path: Path) -> None:
    good = wheel(tmp_path, "shop", {"shop/basket.py": PYTHON, "shop/tests/test_it.py": PYTHON})
    refused = wheel(tmp_path, "closed", {}, licence="GPL-3.0-only")
    (tmp_path / "no.whl").write_bytes(b"not a zip")
    listed = tmp_path / "packages.json"
    assert packages_main([str(good), str(refused), str(tmp_path / "no.whl"), "--list", str(listed)]) == 0
    (package,) = packages_read(listed)
    assert (package.registry, package.name, package.version, package.licence) == ("pypi", "shop", "1.0", "MIT")
    # It is where it would be fetched to, so nothing is fetched; and its hash is looked at all the same.
    assert package_fetch(package, tmp_path) == good
    assert package_mine(package, good, tmp_path / "pairs") == 2
    assert package_mine(package, good, tmp_path / "pairs") == -1
    assert {pair.path for pair in pairs_read(pairs_file(package, tmp_path / "pairs"))} == {"shop/basket.py"}
    with pytest.raises(FetchFailed, match="hash differs"):
        package_fetch(dataclasses.replace(package, sha256="0" * 64), tmp_path)
    with pytest.raises(UnreadableArchive):
        archive_about(tmp_path / "packages.json")


def test_questions_are_written_as_the_benchmarks_read_them(tmp_path: Path) -> None:
    made = wheel(tmp_path, "shop", {"shop/basket.py": PYTHON})
    assert questions_main([str(made), "--to", str(tmp_path / "out")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "shop.jsonl").read_text().splitlines()]
    assert {"query": "Put one more item into it.", "relevant_symbols": ["shop/basket.py::Basket.add"]} in lines
    assert '"""' not in (tmp_path / "out" / "shop" / "shop" / "basket.py").read_text()


def test_questions_are_written_within_their_folder_alone(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere" / "absolute.py"
    made = wheel(
        tmp_path, "shop", {str(outside): PYTHON, "../up.py": PYTHON, "a/../../../far.py": PYTHON, "b.py": PYTHON}
    )
    assert questions_main([str(made), "--to", str(tmp_path / "out")]) == 0
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {made.name, "out/shop.jsonl", "out/shop/b.py"}


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


def test_what_is_evaluated_on_is_not_learnt(tmp_path: Path) -> None:
    package = Package("pypi", "toy", "1", "toy.whl", "0" * 64, "MIT")
    text = "a = load(path)\nb = a.rows\nreturn b"
    pairs = [
        Pair("python", "load all of the rows", "", "a.py", "f", text),
        Pair("python", "something else is asked here", "", "a.py", "g", text.replace("rows", "columns")),
        Pair("python", "nobody knows this one at all", "", "b.py", "h", text.replace("load", "read")),
    ]
    evaluated = Evaluated()
    evaluated.add(pairs[0]._replace(query="Load ALL of the rows.", text="other()"))
    evaluated.add(pairs[1]._replace(query="quite another query than that", text="  " + pairs[1].text + "\n"))
    corpus = corpus_make([(package, pairs)], evaluated=evaluated, max_stems=99, min_count=1, tell=lambda message: None)
    assert len(corpus) == 1
    assert "read" in corpus.stems and "column" not in corpus.stems
    corpus_write(corpus, tmp_path / "corpus.npz")
    again = corpus_read(tmp_path / "corpus.npz")
    assert again.stems == corpus.stems and again.forms == corpus.forms
    assert np.array_equal(again.documents.stems, corpus.documents.stems)
    assert np.array_equal(again.documents.bounds, corpus.documents.bounds)


LOADED = (
    "def load(path):\n    rows = read(path)\n    table = parse(rows, header=True)\n    return table.sorted(key=len)"
)


@pytest.mark.parametrize(
    ("query", "code", "near"),
    [
        ("Rows of the file: load all sorted", "x", True),
        ("Loads all the sorted rows of files", "x", True),
        # One stem more, one less, and one instead of another.
        ("load quickly all sorted rows of the file", "x", True),
        ("load the sorted rows of the file", "x", True),
        ("load all sorted columns of the file", "x", True),
        ("load quickly every column of the file", "x", False),
        ("something that nobody asks", LOADED.replace("    ", "  "), True),
        ("something that nobody asks", LOADED.replace("sorted(key=len)", "sorted(key=size)"), True),
        ("something that nobody asks", LOADED.upper(), True),
        ("something that nobody asks", "def load(path):\n    return open(path)\n    # nothing else", False),
        ("something that nobody asks", "", False),
    ],
)
def test_what_resembles_what_is_evaluated(query: str, code: str, near: bool) -> None:
    evaluated = Evaluated()
    evaluated.add(Pair("python", "load all sorted rows of the file", "", "a.py", "load", LOADED))
    assert evaluated.resembles(Pair("python", query, "", "b.py", "other", code)) is near


SAMPLES = st.frozensets(st.integers(0, 60), min_size=1, max_size=16)


@settings(deadline=None)
@given(SAMPLES, SAMPLES)
def test_samples_agree_both_ways(one: frozenset[int], other: frozenset[int]) -> None:
    told = samples_agree(one, other)
    assert told == samples_agree(other, one) and 0 <= told <= 1
    assert samples_agree(one, one) == 1
    assert (told > 0) <= bool(one & other)


@settings(deadline=None)
@given(st.text(max_size=400))
def test_a_text_resembles_itself(text: str) -> None:
    evaluated = Evaluated()
    evaluated.add(Pair("python", "any question of all", "", "a.py", "f", text))
    assert evaluated.resembles(Pair("python", "any question of all", "", "b.py", "g", "pass"))
    words = len(code_sample(text))
    assert 1 <= words <= 16


@pytest.mark.parametrize(
    ("path", "content", "uses"),
    [
        ("a/b.py", b"import os\n    from twisted.internet import reactor\n", True),
        ("a/b.py", b"# what celery does is not imported here\n", False),
        ("providers/celery/executor.py", b"", True),
        ("src/stream.ts", b"import { Observable } from 'rxjs/operators';", True),
        ("src/map.ts", b'const ol = require("old-map");', False),
        ("git/open.go", b'import "github.com/go-git/go-git/v5"', True),
        ("src/graph.rs", b"use petgraph::graph::Graph;", True),
    ],
)
def test_files_that_use_what_is_evaluated_are_left_out(path: str, content: bytes, uses: bool) -> None:
    assert uses_evaluated(path, content) is uses


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


CLASSES = ("A shelf that keeps", "Base class for", "Represents one of")
FUNCTIONS = ("Return all of", "Create one more of", "Tell whether there is any of")
THINGS = ("books", "letters", "stamps", "coins", "plates", "shells", "stones", "cards")


def kinds_archive(folder: Path) -> Path:
    """A list of one package with as many classes as functions, and its archive where it would be fetched to."""
    code = [
        f'class C{number}{thing}:\n    """{said} {thing}."""\n\n    one_{thing} = {number}\n    two_{number} = 2\n'
        for number, said in enumerate(CLASSES)
        for thing in THINGS
    ] + [
        f'@wrap(\n    "class"\n)\ndef f{number}{thing}(it):\n    """{said} {thing}."""\n    return it[{number}]\n'
        for number, said in enumerate(FUNCTIONS)
        for thing in THINGS
    ]
    (folder / "cache" / "archives").mkdir(parents=True)
    made = wheel(folder / "cache" / "archives", "shop", {"shop/all.py": "\n\n".join(code)})
    listed = folder / "packages.json"
    assert packages_main([str(made), "--list", str(listed)]) == 0
    return listed


def test_words_that_ask_for_a_class_are_learnt_from_archives(tmp_path: Path) -> None:
    listed, out = kinds_archive(tmp_path), tmp_path / "asked.json"
    run = ["--list", str(listed), "--cache", str(tmp_path / "cache"), "--processes", "1", "--min-questions", "4"]
    run += ["--min-language", "10"]
    assert kinds.main([*run, "--out", str(out)]) == 0
    asked = asked_read(out)
    assert min(asked.words["first"][word] for word in ("a", "base", "represents")) > 0
    assert max(asked.words["first"][word] for word in ("return", "create", "tell")) < 0
    # What classes and functions have alike says little.
    assert max(abs(asked.words["anywhere"].get(thing, 0)) for thing in THINGS) < 0.5
    told = json.loads(out.read_text())["made_of"]
    assert (told["questions"], told["classes"]) == (48, 24)
    # The same again is the same, to the byte; and fewer words are those that say most.
    before = out.read_bytes()
    assert kinds.main([*run, "--out", str(out)]) == 0
    assert out.read_bytes() == before
    assert kinds.main([*run, "--words", "6"]) == 0
    few = asked_read(tmp_path / "cache" / "asked.json").words
    assert sum(map(len, few.values())) == 6
    assert not any(thing in few["anywhere"] for thing in THINGS)


def test_without_questions_about_classes_nothing_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "packages.json"
    packages_write([], listed)
    assert kinds.main(["--list", str(listed), "--cache", str(tmp_path / "cache")]) == 1
    assert "no questions about both" in capsys.readouterr().err
    assert not (tmp_path / "cache" / "asked.json").exists()


@pytest.mark.parametrize(
    ("language", "code", "told"),
    [
        ("python", "@wrap(\n    class_of=1\n)\nasync def f():\n    class A: ...", False),
        ("python", "@dataclass\nclass A:\n    def f(self): ...", True),
        ("rust", "#[derive(Debug)]\n// said\npub(crate) struct A<T> {", True),
        ("rust", "    pub async fn f(&self) -> A {", False),
        ("go", "type Store struct {", True),
        ("go", "func (s *Store) typed(a int) error {", False),
        ("typescript", "export default abstract class A {", True),
        ("typescript", "  @type() interfaceOf(a: A) {", False),
        ("javascript", "function classOf(a) {", False),
        ("javascript", "// nothing else", False),
    ],
)
def test_what_a_pair_is_about(language: str, code: str, told: bool) -> None:
    assert kinds.is_class(Pair(language, "a question of some words", "", "a", "A", code)) is told


def test_words_of_what_is_evaluated_on_are_not_learnt() -> None:
    package = Package("pypi", "toy", "1", "toy.whl", "0" * 64, "MIT")
    pairs = [
        Pair("python", "keep all of the rows", "", "a.py", "F", "class F:\n    a = load\n    b = rows"),
        Pair("python", "nobody knows this one at all", "", "b.py", "h", "def h():\n    a = 1\n    return 2"),
        Pair("rust", "another language says it here", "", "c.rs", "G", "pub struct G {\n    a: u8,\n}"),
    ]
    evaluated = Evaluated()
    evaluated.add(pairs[0]._replace(query="Keeps ALL of the rows.", text="other()"))
    found = kinds.questions_read(
        [(package, pairs)], evaluated=evaluated, recipe=kinds.KindsRecipe(min_language=1), tell=lambda message: None
    )
    assert found == [
        kinds.Question("python", "nobody knows this one at all", is_class=False),
        kinds.Question("rust", "another language says it here", is_class=True),
    ]


def test_ranking() -> None:
    text = Bm25(["parse the http header", "draw a line", "header of a table"])
    scores = np.stack([text.scores("httpHeader"), text.scores("line drawing")])
    assert ranks(scores, [[0], [1]]).tolist() == [1, 1]
    # Of equals the answer is the last.
    assert ranks(np.array([[0.5, 0.5, 0.1]], dtype=np.float32), [[0]]).tolist() == [2]
    assert figures(np.array([1, 2, 11])).mrr_at_10 == 0.5
    mixed = fused(scores, np.array([[0, 0, 1.0], [0, 0, 1.0]], dtype=np.float32), text_share=0.0)
    assert mixed.argmax(1).tolist() == [2, 2]
