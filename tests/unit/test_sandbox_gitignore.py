"""Patterns of a .gitignore; that they mean what git means by them is asked of git itself in test_workspace_files."""

from __future__ import annotations

import pytest

from apps.projects.sandbox.gitignore import IgnoreRules


@pytest.mark.parametrize(
    ("line", "ignored", "kept"),
    [
        ("*.log", ["a.log", "x/y/b.log", ".log"], ["a.logs", "log"]),
        ("/build", ["build"], ["x/build"]),
        ("docs/*.txt", ["docs/a.txt"], ["docs/x/a.txt", "x/docs/a.txt"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["b", "a/x/c"]),
        ("**/a/**/b", ["a/b", "x/a/y/b"], ["a/x"]),
        ("a/**", ["a/b", "a/b/c"], ["a"]),
        ("a*b*c", ["abc", "aXbXbXc", "abcbc"], ["abcb", "acb"]),
        ("*a*", ["a", "xay"], ["x"]),
        ("a**b", ["ab", "axb"], ["a/b"]),
        ("[!a]?[0-9]", ["bx1"], ["ax1", "bx"]),
        ("[]]x", ["]x"], ["x"]),
        ("[x", ["[x"], ["x"]),
        ("\\!x", ["!x"], ["x"]),
        ("trailing  ", ["trailing"], ["trailing  "]),
        ("quoted\\ ", ["quoted "], ["quoted"]),
        ("# comment", [], ["# comment", "comment"]),
    ],
)
def test_a_pattern_names_these_and_not_those(line: str, ignored: list[str], kept: list[str]) -> None:
    rules = IgnoreRules().with_file("", line)
    assert [path for path in ignored if not rules.ignores(path, is_folder=False)] == []
    assert [path for path in kept if rules.ignores(path, is_folder=False)] == []


def test_deeper_and_later_rules_win() -> None:
    rules = IgnoreRules().with_file("", "*.x\n!keep.x").with_file("sub/", "keep.x\nonly/")
    assert not rules.ignores("keep.x", is_folder=False)
    assert rules.ignores("sub/keep.x", is_folder=False)
    assert rules.ignores("sub/only", is_folder=True)
    assert not rules.ignores("sub/only", is_folder=False)
    assert not rules.ignores("only", is_folder=True)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "line", ["*a" * 100 + "b", "**/a/" * 40 + "b", "?*" * 100 + "b", "[a]*" * 60 + "b", "*" * 250 + "b"]
)
def test_no_pattern_takes_forever(line: str) -> None:
    rules = IgnoreRules().with_file("", line)
    assert not rules.ignores("/".join(["a" * 250] * 10), is_folder=False)
    assert not rules.ignores("/".join(["a"] * 2000), is_folder=False)
