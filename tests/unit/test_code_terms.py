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
from apps.context.searching.fusion import rankings_fuse, scores_scale
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


def _candidate(chunk_id: int, score: float) -> Candidate:
    return Candidate(chunk_id, 1, "a.py", "", "python", "function", "f", 1, 2, "", score=score)


def test_fusion_scales_each_ranking_and_weighs_it() -> None:
    text = [_candidate(1, 30.0), _candidate(2, 20.0), _candidate(3, 10.0)]
    vector = [_candidate(3, 0.9), _candidate(2, 0.8), _candidate(4, 0.5)]
    fused = {each.candidate.chunk_id: each.candidate.score for each in rankings_fuse(text=text, vector=vector)}
    assert fused == pytest.approx({1: 0.4, 2: 0.4 * 0.5 + 0.6 * 0.75, 3: 0.6, 4: 0.0})
    assert scores_scale([_candidate(1, 2.0), _candidate(2, 2.0)]) == {1: 1.0, 2: 1.0}
    assert rankings_fuse(text=[], vector=[]) == []


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
