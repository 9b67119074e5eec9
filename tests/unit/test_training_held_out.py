"""What the model is held against is not learnt, and how it is held against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.corpus import corpus_make, corpus_read, corpus_write
from training.manifest import Package
from training.mining import uses_evaluated
from training.pairs import Pair
from training.ranking import Bm25, figures, fused, ranks
from training.resembling import Evaluated, code_sample, samples_agree

pytestmark = pytest.mark.unit


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


def test_ranking() -> None:
    text = Bm25(["parse the http header", "draw a line", "header of a table"])
    scores = np.stack([text.scores("httpHeader"), text.scores("line drawing")])
    assert ranks(scores, [[0], [1]]).tolist() == [1, 1]
    # Of equals the answer is the last.
    assert ranks(np.array([[0.5, 0.5, 0.1]], dtype=np.float32), [[0]]).tolist() == [2]
    assert figures(np.array([1, 2, 11])).mrr_at_10 == 0.5
    mixed = fused(scores, np.array([[0, 0, 1.0], [0, 0, 1.0]], dtype=np.float32), text_share=0.0)
    assert mixed.argmax(1).tolist() == [2, 2]
