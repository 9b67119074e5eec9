"""The repository map, packed context, duplicates."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.context.mapping.duplication import duplicates_find
from apps.context.mapping.packing import Piece, PieceKind, pieces_pack
from apps.context.mapping.ranking import MapFile, MapSymbol, symbols_rank
from apps.context.mapping.repository_map import repository_map


def words(text: str) -> int:
    return len(text.split())


def symbol(name: str, line: int = 1, kind: str = "function") -> MapSymbol:
    return MapSymbol(name, name, kind, line, f"def {name}()")


FILES = [
    MapFile("core.py", [symbol("open_store"), symbol("unused_thing", 9)], {}),
    MapFile("a.py", [symbol("run_a")], {"open_store": 3}),
    MapFile("b.py", [symbol("run_b")], {"open_store": 1, "run_a": 1}),
    MapFile("far.py", [symbol("lonely_call")], {"lonely_helper": 1}),
    MapFile("help.py", [symbol("lonely_helper")], {}),
]


def test_what_many_use_ranks_first() -> None:
    ranking = symbols_rank(files=FILES)
    assert ranking.files[0][0] == "core.py"
    assert ranking.symbols[0].symbol.name == "open_store"
    assert abs(sum(rank for _, rank in ranking.files) - 1) < 1e-6


def test_the_ranking_is_drawn_towards_what_is_mentioned() -> None:
    ranking = symbols_rank(files=FILES, mentioned_paths={"far.py": 1.0})
    assert {path for path, _ in ranking.files[:2]} == {"far.py", "help.py"}
    named = symbols_rank(files=FILES, mentioned_names=["unused_thing"])
    assert named.symbols[0].symbol.name in ("unused_thing", "open_store")
    assert symbols_rank(files=[]).files == ()


@settings(max_examples=100, deadline=None)
@given(budget=st.integers(0, 60))
def test_a_map_never_passes_its_budget(budget: int) -> None:
    made = repository_map(ranking=symbols_rank(files=FILES), budget=budget, count=words)
    assert made.tokens == words(made.text) <= budget
    assert made.symbols + made.left_out == 6


def test_a_map_shows_lines_under_their_files() -> None:
    made = repository_map(ranking=symbols_rank(files=FILES), budget=1_000, count=words)
    assert made.text.startswith("core.py:\n    1: def open_store()\n    9: def unused_thing()\n")
    assert made.left_out == 0


def piece(kind: PieceKind, path: str, first: int, last: int, score: float = 1.0) -> Piece:
    text = "\n".join(f"line {number} of {path}" for number in range(first, last + 1))
    return Piece(kind, path, first, last, text, score, "name")


def test_pieces_come_by_kind_and_score_and_none_twice() -> None:
    packed = pieces_pack(
        pieces=[
            piece("caller", "c.py", 1, 5),
            piece("hit", "a.py", 1, 20, 0.5),
            piece("hit", "b.py", 1, 9, 0.9),
            piece("callee", "a.py", 3, 8),
            piece("rules", "AGENTS.md", 1, 3),
        ],
        budget=2_000,
        count=words,
    )
    assert [(each.kind, each.path) for each in packed.pieces] == [
        ("rules", "AGENTS.md"),
        ("hit", "b.py"),
        ("hit", "a.py"),
        ("caller", "c.py"),
    ]
    assert "## b.py:1-9 (name)" in packed.text
    assert packed.left_out == ()


def test_what_a_fence_holds_cannot_close_it() -> None:
    packed = pieces_pack(pieces=[Piece("hit", "a.md", 1, 1, "```\nx\n````")], budget=100, count=words)
    assert "`````\n```" in packed.text


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(
        st.builds(
            piece,
            st.sampled_from(["rules", "hit", "caller", "callee", "test", "map"]),
            st.sampled_from(["a", "b", "c"]),
            st.integers(1, 30),
            st.integers(31, 60),
            st.floats(0, 1),
        ),
        max_size=12,
    ),
    budget=st.integers(0, 900),
)
def test_packed_context_stays_in_its_budget(pieces: list[Piece], budget: int) -> None:
    packed = pieces_pack(pieces=pieces, budget=budget, count=words)
    assert packed.tokens == words(packed.text) <= budget
    for each in packed.pieces:
        assert each.source in packed.text
        assert len(each.text.split("\n")) == each.end_line - each.start_line + 1


BODY = "\n".join(f"    value_{number} = compute({number})" for number in range(10))


def test_the_same_lines_are_found_whatever_their_spacing() -> None:
    texts = {
        "a.py": f"import os\n\ndef one():\n{BODY}\n    return 1\n",
        "b.py": f"def two(x):\n\n{BODY.replace(' = ', '=')}\n    return 2\n",
        "c.py": "def three():\n    return 3\n",
    }
    found = duplicates_find(texts=texts)
    (duplicate,) = found.duplicates
    assert (duplicate.first_path, duplicate.first_start, duplicate.first_end) == ("a.py", 4, 13)
    assert (duplicate.second_path, duplicate.second_start, duplicate.second_end) == ("b.py", 3, 12)
    assert duplicate.lines == 10
    assert set(found.shares) == {"a.py", "b.py"}
    assert not found.truncated


def test_a_table_of_equal_lines_is_no_duplicate_of_itself() -> None:
    found = duplicates_find(texts={"a.py": "x = [\n" + "    call(0),\n" * 60 + "]\n"})
    assert all(each.first_path != each.second_path or each.second_start > each.first_end for each in found.duplicates)


@settings(max_examples=100, deadline=None)
@given(texts=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(alphabet="ab\n =", max_size=200)))
def test_duplicates_are_really_equal(texts: dict[str, str]) -> None:
    for each in duplicates_find(texts=texts, window=3).duplicates:
        one = texts[each.first_path].split("\n")[each.first_start - 1 : each.first_end]
        other = texts[each.second_path].split("\n")[each.second_start - 1 : each.second_end]
        said = [["".join(line.split()) for line in lines if any(c.isalnum() for c in line)] for lines in (one, other)]
        assert said[0] == said[1]
