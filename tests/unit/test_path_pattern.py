"""Glob patterns over paths."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.projects.sandbox.path_pattern import path_matcher
from apps.projects.workspace import WorkspaceError


@pytest.mark.parametrize(
    ("pattern", "fits", "doesnt"),
    [
        ("*.py", ["a.py", "src/deep/a.py"], ["a.pyc", "a.py/b"]),
        ("src/*.py", ["src/a.py"], ["a.py", "src/deep/a.py"]),
        ("src/**/*.py", ["src/a.py", "src/b/c/a.py"], ["lib/src/a.py", "src/a.js"]),
        ("**/a/**/b", ["a/b", "x/a/y/b", "a/a/b/b"], ["b", "a/c"]),
        ("docs/", ["docs/a.md", "docs/deep/b.md"], ["docs", "other/docs/a.md"]),
        ("**", ["a", "a/b"], []),
        ("test_[a-c]?.{py,pyi}", ["test_a1.py", "x/test_c2.pyi"], ["test_d1.py", "test_a1.js"]),
        ("{src,lib}/{a,b{1,2}}.c", ["src/a.c", "lib/b2.c"], ["src/b.c"]),
        ("[!a]*", ["b", "x/ba"], ["a"]),
        ("a[", ["a["], ["a"]),
    ],
)
def test_what_fits_and_what_does_not(pattern: str, fits: list[str], doesnt: list[str]) -> None:
    matches = path_matcher(pattern)
    assert [path for path in fits if not matches(path)] == []
    assert [path for path in doesnt if matches(path)] == []


@given(st.text("ab*?", min_size=1, max_size=12), st.text("ab", min_size=1, max_size=12))
def test_names_match_as_by_the_obvious_regular_expression(pattern: str, name: str) -> None:
    pattern = re.sub(r"\*+", "*", pattern)
    obvious = re.fullmatch(pattern.replace("*", ".*").replace("?", "."), name)
    assert path_matcher(f"x/{pattern}")(f"x/{name}") == (obvious is not None)


@given(
    st.lists(st.sampled_from(["a", "b", "**"]), min_size=1, max_size=6), st.lists(st.sampled_from("abc"), min_size=1)
)
def test_folders_match_as_by_the_obvious_regular_expression(pattern: list[str], path: list[str]) -> None:
    parts = ["(?:[^/]+/)*" if part == "**" else f"{part}/" for part in pattern]
    if pattern[-1] == "**":
        parts.append("[^/]+/")
    obvious = re.fullmatch("".join(parts), "/".join([*path, ""]))
    if len(pattern) > 1:
        assert path_matcher("/".join(pattern))("/".join(path)) == (obvious is not None)


def test_no_pattern_takes_for_ever() -> None:
    assert not path_matcher("*a" * 100 + "b")("a" * 250)
    assert not path_matcher("**/a/" * 90 + "b")("a/" * 1000 + "c")


@pytest.mark.parametrize("pattern", ["", "  ", "a\0b", "x" * 501, "{a", "{a,b}" * 10])
def test_what_cannot_be_read_is_refused(pattern: str) -> None:
    with pytest.raises(WorkspaceError):
        path_matcher(pattern)
