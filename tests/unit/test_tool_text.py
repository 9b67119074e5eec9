"""Files as a model reads and changes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.tools.text import syntax_error_find, text_decode, text_encode, text_replace
from apps.projects.workspace import WorkspaceError


@given(st.binary(max_size=200).filter(lambda content: b"\x00" not in content))
def test_every_byte_of_a_text_file_survives_reading_and_writing(content: bytes) -> None:
    assert text_encode(text_decode(content, "file")) == content


def test_a_binary_file_is_refused() -> None:
    with pytest.raises(WorkspaceError, match="binary"):
        text_decode(b"\x89PNG\x00\x00", "logo.png")


@pytest.mark.parametrize("source", ["-" * 300_000 + "1", "(" * 100_000, "a" + ".b" * 100_000])
def test_source_that_python_s_parser_gives_up_on_is_told(source: str) -> None:
    assert syntax_error_find("deep.py", source.encode())


@given(st.text(alphabet="ab\n", max_size=20), st.text(alphabet="xy", min_size=1, max_size=5), st.text(max_size=5))
def test_a_replacement_changes_one_place_and_nothing_else(around: str, old: str, new: str) -> None:
    if old == new:
        return
    text = f"{around}|{old}|{around}"
    assert text_replace(text, old=f"|{old}|", new=f"|{new}|", path="file") == f"{around}|{new}|{around}"


def test_a_missing_text_names_the_closest_place() -> None:
    with pytest.raises(WorkspaceError, match=r"closest place:(?s:.*)     2\tdef total\(items\):"):
        text_replace("import os\ndef total(items):\n    return 1\n", old="def totals(item):", new="x", path="a.py")


def test_a_text_that_differs_in_white_space_alone_is_said_to() -> None:
    with pytest.raises(WorkspaceError, match="differs in white space from lines 1 to 2"):
        text_replace("if a:\n\treturn b\n", old="if a:\n    return b", new="x", path="a.py")


def test_an_ambiguous_text_names_its_lines() -> None:
    with pytest.raises(WorkspaceError, match=r"2 times \(lines 1, 3\)"):
        text_replace("x = 1\ny = 2\nx = 1\n", old="x = 1", new="x = 2", path="a.py")


def test_windows_line_ends_are_kept() -> None:
    assert text_replace("a\r\nb\r\nc\r\n", old="a\nb\n", new="d\ne\n", path="a.txt") == "d\r\ne\r\nc\r\n"


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("a.py", b"def f(:\n    pass\n", "line 1"),
        ("a.py", b"x = 1\n", None),
        ("a.json", b'{"a": }', "Expecting value"),
        ("a.toml", b"a = ", "Invalid value"),
        ("a.toml", b"\xff", "decode"),
        ("a.txt", b"def f(:", None),
    ],
)
def test_source_that_does_not_parse_is_reported(path: str, content: bytes, problem: str | None) -> None:
    found = syntax_error_find(path, content)
    assert found is None if problem is None else found is not None and problem in found
