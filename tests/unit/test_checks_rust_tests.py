"""Tests within Rust source files are told from the code and put back, whatever the code looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.projects.ecosystems.rust_tests import rust_tests_restore

CODE = """\
//! An adder. { "
use std::fmt;

const BRACES: &str = "}}{ \\" #[test]";
const RAW: &str = r#"} "quoted" #[cfg(test)] mod fake {"#;

/* a comment { /* within one */ " */
pub fn add<'a>(a: i32, b: i32) -> i32 {
    let open = '{';
    let quote = '\\'';
    a - b
}

pub mod inner {
    pub fn one() -> i32 { 1 }

    #[cfg(test)]
    mod tests {
        #[test]
        fn one() { assert_eq!(super::one(), 1); }
    }
}
"""
TESTS = """
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds() {
        assert_eq!(add(1, 2), 3);
    }
}
"""


def test_a_change_of_code_alone_leaves_nothing_to_restore() -> None:
    new = (CODE + TESTS).replace("a - b", "a + b")
    assert rust_tests_restore(CODE + TESTS, new).text == new
    assert rust_tests_restore(CODE + TESTS, new).complete


@pytest.mark.parametrize(
    ("old", "changed"),
    [
        ("assert_eq!(add(1, 2), 3);", "assert_eq!(add(1, 2), -1);"),
        ("#[test]\n    fn adds", "#[test]\n    #[ignore]\n    fn adds"),
        ("assert_eq!(super::one(), 1)", "assert!(true)"),
        (
            "#[cfg(test)]\nmod tests {\n    use super::*;\n",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n    // more\n",
        ),
    ],
)
def test_changed_tests_are_put_back_beside_the_new_code(old: str, changed: str) -> None:
    before = CODE + TESTS
    assert old in before
    new = before.replace(old, changed).replace("a - b", "a + b")
    restored = rust_tests_restore(before, new)
    assert restored.complete
    assert restored.text == before.replace("a - b", "a + b")


def test_tests_that_were_taken_out_come_back_and_new_ones_stay() -> None:
    more = "\n#[cfg(test)]\nmod more_tests {\n    #[test]\n    fn more() {}\n}\n"
    restored = rust_tests_restore(CODE + TESTS, CODE + more)
    assert restored.complete
    assert TESTS.strip() in restored.text and more.strip() in restored.text
    # Within another module there is no place any more to put them.
    gone = CODE.replace("#[cfg(test)]\n    mod tests", "mod other")
    assert not rust_tests_restore(CODE, gone).complete


def test_what_cannot_be_told_apart_is_said_to_be_so() -> None:
    macro = "proptest! {\n    #[test]\n    fn adds(a in 0..9) { assert!(add(a, 0) == a); }\n}\n"
    assert not rust_tests_restore(macro, macro.replace("== a", ">= 0")).complete
    assert not rust_tests_restore("fn a() {", "fn a() {}").complete
    documented = "/// ```\n/// assert_eq!(add(1, 2), 3);\n/// ```\npub fn add() {}\n"
    assert not rust_tests_restore(documented, documented.replace("3", "4")).complete
    assert rust_tests_restore(documented, "/// Adds.\n///\n" + documented).complete
    assert rust_tests_restore("/// ```text\n/// a\n/// ```\nfn a() {}\n", "fn a() {}\n").complete


_PIECES = st.sampled_from(
    ["{", "}", "(", ")", '"', "'", "'a", "'{'", "//", "/*", "*/", "\n", "#[test]", "#[cfg(test)]", "mod tests",
     "fn a()", "mod x", ";", 'r#"', '"#', "\\", "use a::{b};", "pub(crate) ", "///", "```", "macro!", " "]
)  # fmt: skip
_SOURCES = st.lists(_PIECES | st.text(max_size=3), max_size=25).map(" ".join)


@given(_SOURCES, _SOURCES)
def test_any_sources_at_all_are_taken(old: str, new: str) -> None:
    restored = rust_tests_restore(old, new)
    assert isinstance(restored.text, str)


@given(_SOURCES)
def test_a_file_that_is_as_it_was_stays_so(source: str) -> None:
    assert rust_tests_restore(source, source).text == source


@given(st.sampled_from(["adds", "works", "is_fine"]), st.text(alphabet="abc+-/ ;=", max_size=20))
def test_tests_as_they_were_stand_in_the_restored_file(name: str, body: str) -> None:
    tests = f"#[cfg(test)]\nmod tests {{\n    #[test]\n    fn {name}() {{ assert!(1 == 1); }}\n}}\n"
    new = f"fn code() {{ /* {body} */ }}\n" + tests.replace("1 == 1", "true")
    restored = rust_tests_restore("fn code() {}\n" + tests, new)
    assert tests.strip() in restored.text
