"""Terms, postings, fusion, literals of expressions, imports: what search is made of, without a database."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.context.dependencies import ImportResolver
from apps.context.postings import (
    TermPostings,
    bm25_rank,
    length_byte,
    records_pack,
    records_unpack,
)
from apps.context.searching.candidates import Candidate
from apps.context.searching.fusion import Signal, SignalName, kinds_weigh, rankings_fuse, scores_scale
from apps.context.searching.regex import literals_required
from apps.context.terms import LONG_WORD, text_terms, word_terms
from apps.context.walking import IgnoredPaths, is_binary


@pytest.mark.parametrize(
    ("word", "terms"),
    [
        ("getUserById", ("getuserbyid", "get", "user", "by", "id")),
        ("get_user_by_id", ("get_user_by_id", "get", "user", "by", "id")),
        ("HTTPServer2", ("httpserver2", "http", "server")),
        ("parseHTTPHeader", ("parsehttpheader", "parse", "http", "header")),
        ("plain", ("plain",)),
        ("x", ("x",)),
        ("größe", ("größe",)),
        ("a" * 65, (LONG_WORD,)),
    ],
)
def test_words_are_split_where_people_read_them(word: str, terms: tuple[str, ...]) -> None:
    found = word_terms(word)
    assert found[0] == terms[0]
    assert set(terms) <= set(found) or word == "größe"


@given(st.text(max_size=200))
def test_terms_never_fail_and_are_counted(text: str) -> None:
    counted = text_terms(text)
    assert all(times > 0 for times in counted.values())
    assert text_terms(f"{text} {text}") == {term: 2 * times for term, times in counted.items()}


@given(
    st.lists(st.tuples(st.integers(0, 2**40 - 1), st.integers(1, 255), st.integers(0, 255)), min_size=1, max_size=50)
)
def test_records_come_back_as_they_were(rows: list[tuple[int, int, int]]) -> None:
    packed = records_pack(
        chunk_ids=np.array([row[0] for row in rows], np.int64),
        counts=np.array([row[1] for row in rows], np.uint8),
        lengths=np.array([row[2] for row in rows], np.uint8),
    )
    ids, counts, lengths = records_unpack(packed.tobytes() + packed.tobytes())
    assert list(zip(ids.tolist(), counts.tolist(), lengths.tolist(), strict=True)) == rows * 2


def _postings(term: str, rows: list[tuple[int, int, int]]) -> TermPostings:
    packed = records_pack(
        chunk_ids=np.array([row[0] for row in rows], np.int64),
        counts=np.array([row[1] for row in rows], np.uint8),
        lengths=np.array([length_byte(row[2]) for row in rows], np.uint8),
    )
    return TermPostings(term, 1.0, packed.tobytes())


@given(
    st.lists(
        st.dictionaries(
            st.integers(1, 60), st.tuples(st.integers(1, 20), st.integers(1, 500)), min_size=1, max_size=30
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 20),
)
def test_bm25_is_that_of_the_formula(terms: list[dict[int, tuple[int, int]]], limit: int) -> None:
    documents, mean = 60, 80.0
    lengths = {document: terms[0].get(document, (1, 40))[1] for document in range(1, 61)}
    expected: dict[int, float] = {}
    for having in terms:
        rarity = math.log(1 + (documents - len(having) + 0.5) / (len(having) + 0.5))
        for document, (times, _) in having.items():
            rounded = 1.05 ** length_byte(lengths[document])
            share = times * 3.0 / (times + 2.0 * (0.4 + 0.6 * rounded / mean))
            expected[document] = expected.get(document, 0.0) + rarity * share
    ranking = bm25_rank(
        postings=[
            _postings(str(number), [(document, times, lengths[document]) for document, (times, _) in having.items()])
            for number, having in enumerate(terms)
        ],
        documents=documents,
        mean_length=mean,
        limit=limit,
    )
    best = sorted(expected.values(), reverse=True)[:limit]
    assert len(ranking.ids) == len(best)
    assert ranking.scores.tolist() == pytest.approx(best, rel=1e-3)
    for chunk_id, score in zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True):
        assert score == pytest.approx(expected[chunk_id], rel=1e-3)


KINDS = {"module": 0.5, "class": 0.8}


def _candidate(chunk_id: int, score: float, kind: str = "function") -> Candidate:
    return Candidate(chunk_id, 1, "a.py", "", "python", kind, "f", 1, 2, "", score=score)


def _signal(name: SignalName, scale: str, scores: dict[int, float], unknown: frozenset[int] = frozenset()) -> Signal:
    return Signal(name, scale, [_candidate(chunk_id, score) for chunk_id, score in scores.items()], unknown)


def _fused(*signals: Signal) -> dict[int, float]:
    return {each.candidate.chunk_id: each.candidate.score for each in rankings_fuse(signals, kinds=KINDS)}


_TEXT = {1: 30.0, 2: 20.0, 3: 10.0}
_MEANT = {3: 0.9, 2: 0.8, 4: 0.5}
_STATIC, _MINILM = "local:archon-static:1:256", "local:minilm-l6-v2-int8:1:384"


def test_fusion_scales_each_ranking_and_weighs_it() -> None:
    text = _signal("text", "text", _TEXT)
    fused = _fused(text, _signal("vector", _MINILM, _MEANT))
    assert fused == pytest.approx({1: 0.4, 2: 0.4 * 0.5 + 0.6 * 0.75, 3: 0.6, 4: 0.0})
    fused = _fused(text, _signal("vector", _STATIC, _MEANT))
    assert fused == pytest.approx({1: 0.3, 2: 0.3 * 0.5 + 0.7 * 0.75, 3: 0.7, 4: 0.0})
    assert scores_scale([_candidate(1, 2.0), _candidate(2, 2.0)]) == {1: 1.0, 2: 1.0}
    assert rankings_fuse([], kinds=KINDS) == []


def test_a_third_signal_counts_as_much_as_each_of_the_others() -> None:
    text, vector = _signal("text", "text", _TEXT), _signal("vector", _STATIC, _MEANT)
    found = rankings_fuse([text, vector, _signal("second", _MINILM, {2: 0.7, 1: 0.2})], kinds=KINDS)
    scores = {each.candidate.chunk_id: each.candidate.score for each in found}
    assert scores == pytest.approx({1: 1 / 3, 2: (0.5 + 0.75 + 1) / 3, 3: 1 / 3, 4: 0.0})
    best = found[0]
    assert best.candidate.chunk_id == 2
    assert [(share.name, share.scale, share.value) for share in best.shares] == [
        ("text", "text", 20.0),
        ("vector", _STATIC, 0.8),
        ("second", _MINILM, 0.7),
    ]


def test_of_a_chunk_without_a_vector_the_other_signals_decide() -> None:
    text = _signal("text", "text", _TEXT)
    scores = _fused(text, _signal("vector", _STATIC, {3: 0.9, 2: 0.8}, frozenset({1})))
    assert scores == pytest.approx({1: 1.0, 2: 0.3 * 0.5, 3: 0.7})


def test_kinds_count_after_rankings_were_scaled() -> None:
    """On raw cosines, which lie close together, any weight would put a class behind hundreds of functions."""
    found = [(1, 0.91, "class"), (2, 0.90, "function"), (3, 0.52, "module"), (4, 0.5, "function")]
    vector = Signal("vector", _STATIC, [_candidate(*each) for each in found])
    fused = [each.candidate for each in rankings_fuse([vector], kinds={"module": 0.5, "class": 1.1})]
    assert [each.chunk_id for each in fused] == [1, 2, 3, 4]
    assert fused[0].score == pytest.approx(1.1)
    fused = [each.candidate for each in rankings_fuse([vector], kinds=KINDS)]
    assert [each.chunk_id for each in fused] == [2, 1, 3, 4]
    assert [each.score for each in fused] == pytest.approx([0.4 / 0.41, 0.8, 0.5 * 0.02 / 0.41, 0])


def test_words_alone_are_weighed_by_kinds() -> None:
    ranked = kinds_weigh([_candidate(1, 30.0, "class"), _candidate(2, 25.0), _candidate(3, 20.0, "lines")], kinds=KINDS)
    assert [(each.chunk_id, each.score) for each in ranked] == [(2, 25.0), (1, 24.0), (3, 20.0)]


@given(
    text=st.dictionaries(st.integers(1, 30), st.floats(0.1, 50), max_size=20),
    vectors=st.lists(st.dictionaries(st.integers(1, 30), st.floats(-1, 1), min_size=1, max_size=20), max_size=2),
    unknown=st.frozensets(st.integers(1, 30)),
)
def test_fused_scores_are_between_none_and_all(
    text: dict[int, float], vectors: list[dict[int, float]], unknown: frozenset[int]
) -> None:
    names: tuple[SignalName, ...] = ("vector", "second")
    signals = [_signal("text", "text", text)]
    for name, scale, found in zip(names, (_STATIC, _MINILM), vectors, strict=False):
        signals.append(_signal(name, scale, found, unknown - found.keys()))
    fused = rankings_fuse(signals, kinds=KINDS)
    assert {each.candidate.chunk_id for each in fused} == text.keys() | {key for found in vectors for key in found}
    scores = [each.candidate.score for each in fused]
    assert scores == sorted(scores, reverse=True)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in scores)
    for each in fused:
        # What all signals that know the chunk have first is first.
        if all(share.scaled == 1.0 for share in each.shares):
            assert each.candidate.score == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        (r"def get_\w+\(", ["get_", "def"]),
        (r"foo|bar", []),
        (r"(?i)FooBar", ["foobar"]),
        (r"(abc)+xyz?", ["abc"]),
        (r"a.c", []),
        (r"\bwhole\b", ["whole"]),
        (r"[[:alpha:]abc]thing", []),
        (r"\b{start}word", []),
        (r"(unclosed", []),
        (r"x{0}optional", ["optional"]),
    ],
)
def test_literals_that_a_match_has_to_have(pattern: str, literals: list[str]) -> None:
    assert literals_required(pattern) == sorted(literals, key=lambda run: (-len(run), run))


@given(st.lists(st.sampled_from(["abc", "Def_1", ".*", r"\s+", "(xyz)?", "[pq]", "long_word", "|", "k+"]), max_size=6))
def test_a_line_that_matches_has_every_literal(parts: list[str]) -> None:
    pattern = "".join(parts)
    try:
        compiled = re.compile(pattern)
    except re.error:
        return
    for line in ("abcDef_1 pqlong_word", "xyz abc  long_word kkk", "Def_1q", "abclong_wordkDef_1"):
        if compiled.search(line):
            assert all(literal in line.lower() for literal in literals_required(pattern))


def test_ignored_folders_take_all_below_them_along() -> None:
    paths = IgnoredPaths({"": ["build/\n*.log\n", "!keep.log\n"], "src/": ["made.py\n"]})
    assert paths.ignores("build/deep/er/file.py")
    assert paths.ignores("a/b/c.log")
    assert not paths.ignores("a/keep.log")
    assert paths.ignores("src/made.py") and not paths.ignores("made.py")


def test_binary_is_what_has_a_nul_near_its_beginning() -> None:
    assert is_binary(b"abc\0def")
    assert not is_binary(b"a" * 9_000 + b"\0")
    assert not is_binary("\ufeffwide".encode("utf-16"))
    assert not is_binary(b"")


@pytest.mark.parametrize(
    ("importer", "module", "names", "found"),
    [
        ("pkg/a.py", "pkg.b", ["thing"], ("pkg/b.py",)),
        ("pkg/a.py", ".b", ["thing"], ("pkg/b.py",)),
        ("pkg/sub/c.py", "..b", [], ("pkg/b.py",)),
        ("pkg/a.py", "pkg", ["b"], ("pkg/__init__.py", "pkg/b.py")),
        ("pkg/a.py", ".", ["b"], ("pkg/__init__.py", "pkg/b.py")),
        ("pkg/a.py", "os.path", ["join"], ()),
        ("web/app.ts", "./util", [], ("web/util.ts",)),
        ("web/app.ts", "./parts", [], ("web/parts/index.ts",)),
        ("web/app.ts", "react", [], ()),
        ("src/main.rs", "crate::net::socket::Socket", [], ("src/net/socket.rs",)),
        ("core/main.c", '"util/list.h"', [], ("core/util/list.h",)),
        ("app/Main.java", "org.acme.tool.Runner", [], ("lib/org/acme/tool/Runner.java",)),
        ("pkg/a.py", "....far.away", [], ()),
        ("pkg/a.py", "", [], ()),
    ],
)
def test_imports_find_the_files_that_they_name(
    importer: str, module: str, names: list[str], found: tuple[str, ...]
) -> None:
    resolver = ImportResolver(
        [
            "pkg/__init__.py", "pkg/a.py", "pkg/b.py", "pkg/sub/c.py", "web/app.ts", "web/util.ts",
            "web/parts/index.ts", "src/main.rs", "src/net/socket.rs", "core/main.c", "core/util/list.h",
            "lib/org/acme/tool/Runner.java",
        ]
    )  # fmt: skip
    assert resolver.resolve(importer=importer, module=module, names=names) == found


@given(st.text(max_size=60), st.lists(st.text(max_size=10), max_size=3))
def test_imports_of_anything_never_fail(module: str, names: list[str]) -> None:
    ImportResolver(["a/b.py", "c.js"]).resolve(importer="a/x.py", module=module, names=names)
