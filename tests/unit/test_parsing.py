"""Files become symbols, references, imports and chunks; any bytes become something sensible, in bounded time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.context.parser_pool import ParseFile, ParserPool
from apps.context.parsing.chunking import CHUNK_LIMIT
from apps.context.parsing.dialects.registry import DIALECTS
from apps.context.parsing.languages import language_of
from apps.context.parsing.parse import PARSED_BYTES, READ_BYTES, file_parse
from apps.context.parsing.types import ParsedFile, chunk_header

#: A small file of each language, as people write them.
SAMPLES = {
    path.name.removesuffix(".txt"): path.read_text()
    for path in sorted((Path(__file__).parent / "parsing_samples").iterdir())
}
#: Of each language's sample: what is defined, what is used, and what is imported, among other things.
EXPECTED: dict[str, tuple[set[tuple[str, str]], set[tuple[str, str, str]], set[str]]] = {
    "store.py": (
        {("class", "Store"), ("method", "Store.read"), ("function", "opened"), ("variable", "LIMIT")},
        {
            ("call", "lookup", "Store.read"),
            ("call", "Gone", "Store.read"),
            ("inherit", "Base", "Store"),
            ("type", "Item", "Store.read"),
            ("other", "Store", "opened"),
            ("call", "register", ""),
        },
        {"__future__", "json", "app.base"},
    ),
    "store.js": (
        {("class", "Person"), ("method", "Person.greet"), ("method", "Person.handler"), ("function", "shout")}
        | {("function", "whisper"), ("variable", "LIMIT")},
        {("inherit", "Base", "Person"), ("call", "hello", "Person.greet"), ("call", "Panel", "View")},
        {"react", "fs"},
    ),
    "store.ts": (
        {("interface", "Reader"), ("enum", "Color"), ("type", "Pair"), ("class", "Service"), ("method", "Service.read")}
        | {("function", "Inner.helper"), ("function", "main")},
        {("inherit", "Reader", "Service"), ("call", "missing", "Service.read"), ("type", "Item", "Service.read")},
        {"./store"},
    ),
    "card.tsx": (
        {("interface", "Props"), ("function", "Card"), ("function", "App")},
        {("call", "Panel", "Card"), ("call", "Card", "App"), ("type", "Props", "Card")},
        {"react"},
    ),
    "store.go": (
        {("struct", "Store"), ("interface", "Reader"), ("method", "Store.Get"), ("function", "New")}
        | {("constant", "MaxItems")},
        {("call", "Errorf", "Store.Get"), ("call", "find", "Store.Get"), ("type", "Item", "Store.Get")},
        {"fmt", "github.com/sirupsen/logrus"},
    ),
    "store.rs": (
        {("struct", "Store"), ("trait", "Reader"), ("method", "Store.read"), ("function", "inner.helper")}
        | {("enum", "Color"), ("constant", "LIMIT"), ("macro", "twice")},
        {("inherit", "Reader", "Store"), ("call", "make", "Store.read"), ("call", "panic", "Store.read")},
        {"std::collections", "crate::store"},
    ),
    "Store.java": (
        {("class", "Store"), ("method", "Store.read"), ("method", "Store.Store"), ("interface", "Store.Inner")}
        | {("enum", "Store.Color"), ("variable", "Store.LIMIT")},
        {("inherit", "Base", "Store"), ("call", "MissingException", "Store.read"), ("type", "Item", "Store.read")},
        {"java.util", "org.junit.Assert"},
    ),
    "store.c": (
        {
            ("macro", "LIMIT"),
            ("type", "store_t"),
            ("struct", "store"),
            ("function", "store_read"),
            ("function", "main"),
        },
        {("call", "lookup", "store_read"), ("call", "store_read", "main"), ("type", "store_t", "store_read")},
        {"stdio.h", "store.h"},
    ),
    "store.cpp": (
        {("namespace", "app"), ("class", "app.Store"), ("method", "app.Store.read"), ("function", "app.make")}
        | {("method", "app.Store.count")},
        {("inherit", "Base", "app.Store"), ("call", "find", "app.Store.read"), ("call", "size", "app.Store.count")},
        {"vector"},
    ),
    "Store.cs": (
        {("namespace", "App.Core"), ("class", "Store"), ("method", "Store.Read"), ("interface", "IReader")}
        | {("variable", "Store.Size"), ("enum", "Color")},
        {("inherit", "Base", "Store"), ("call", "MissingException", "Store.Read"), ("call", "Find", "Store.Read")},
        {"System.Collections.Generic"},
    ),
    "store.rb": (
        {("module", "App"), ("class", "App.Store"), ("method", "App.Store.read"), ("method", "App.Store.open")}
        | {("constant", "App.LIMIT")},
        {("inherit", "Base", "App.Store"), ("call", "lookup", "App.Store.read")},
        {"json", "base"},
    ),
    "store.php": (
        {("class", "Store"), ("method", "Store.read"), ("interface", "Closer"), ("function", "helper")}
        | {("constant", "LIMIT")},
        {("inherit", "Model", "Store"), ("call", "lookup", "Store.read"), ("type", "Store", "helper")},
        {"App\\Base", "App"},
    ),
    "Store.kt": (
        {("class", "Store"), ("method", "Store.read"), ("interface", "Reader"), ("class", "Registry")}
        | {("function", "helper"), ("variable", "LIMIT"), ("method", "Store.Companion.open")},
        {("inherit", "Base", "Store"), ("call", "lookup", "Store.read"), ("call", "max", "helper")},
        {"kotlin.math"},
    ),
    "Store.swift": (
        {("class", "Store"), ("method", "Store.read"), ("struct", "Point"), ("enum", "Color"), ("interface", "Reader")}
        | {("function", "helper"), ("variable", "limit"), ("method", "Store.init")},
        {("inherit", "Base", "Store"), ("call", "lookup", "Store.read"), ("call", "helper", "Store.close")},
        {"Foundation"},
    ),
    "Store.scala": (
        {("class", "Store"), ("method", "Store.read"), ("trait", "Reader"), ("method", "Registry.open")}
        | {("class", "Point")},
        {("inherit", "Base", "Store"), ("call", "lookup", "Store.read"), ("call", "Store", "Registry.open")},
        {"scala.collection", "a.c"},
    ),
    "store.sh": (
        {("function", "read_one"), ("function", "main"), ("variable", "LIMIT")},
        {("call", "lookup", "read_one"), ("call", "read_one", "main")},
        {"./lib.sh"},
    ),
    "store.sql": (
        {("table", "users"), ("table", "active"), ("rule", "users_name"), ("function", "add_one")},
        {("type", "users", "")},
        set(),
    ),
    "page.html": ({("section", "Hi x"), ("key", "#m")}, set(), {"a.js", "a.css"}),
    "style.css": ({("rule", "a.b, #c"), ("rule", "@media print.p")}, {("type", "b", "")}, {"x.css"}),
    "guide.md": ({("section", "A title"), ("section", "A title > Sub `x`"), ("section", "Set")}, set(), set()),
    "settings.yml": ({("key", "a"), ("key", "a.b"), ("key", "e")}, set(), set()),
    "settings.toml": ({("key", "x"), ("section", "a.b"), ("key", "a.b.c"), ("section", "d")}, set(), set()),
    "settings.json": ({("key", "a"), ("key", "a.b"), ("key", "c")}, set(), set()),
}


def parse(name: str) -> ParsedFile:
    return file_parse(path=f"src/{name}", content=SAMPLES[name].encode())


def test_every_language_with_a_grammar_has_a_sample() -> None:
    assert {language_of(name, b"") for name in SAMPLES} == set(DIALECTS)
    assert set(EXPECTED) == set(SAMPLES)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_what_a_file_says(name: str) -> None:
    parsed = parse(name)
    symbols, references, imports = EXPECTED[name]
    assert parsed.broken == ""
    assert symbols <= {(symbol.kind, symbol.qualified_name) for symbol in parsed.symbols}
    assert references <= {(each.kind, each.name, each.within) for each in parsed.references}
    assert imports == {each.module for each in parsed.imports}
    check_ranges(parsed, SAMPLES[name].encode())


def test_documentation_signature_and_complexity() -> None:
    symbols = {symbol.qualified_name: symbol for symbol in parse("store.py").symbols}
    store, read = symbols["Store"], symbols["Store.read"]
    assert store.docstring == "Holds items."
    assert (store.start_line, store.end_line) == (11, 21)
    assert read.signature == "def read(self, key: str) -> Item"
    assert (read.docstring, read.complexity) == ("Read one.", 3)
    for name, described in (("store.go", "Store.Get"), ("Store.java", "Store.read"), ("store.rs", "Store.read")):
        found = {symbol.qualified_name: symbol for symbol in parse(name).symbols if symbol.docstring}
        assert found[described].complexity > 1


def test_chunks_are_whole_functions_with_the_comments_before_them() -> None:
    chunks = {chunk.qualified_name: chunk for chunk in parse("store.js").chunks}
    greet = chunks["Person.greet"]
    assert greet.text.lstrip().startswith("// Says hello.")
    assert (
        greet.header == "src/store.js Person.greet" == chunk_header(path="src/store.js", qualified_name="Person.greet")
    )
    assert chunks["Person"].text.startswith("/**\n * A person.")
    assert [chunk.kind for chunk in parse("store.js").chunks][:3] == ["module", "class", "method"]


def test_todos_say_where() -> None:
    assert [(todo.line, todo.text) for todo in parse("store.py").todos] == [(20, "TODO: say which")]


def test_an_import_is_read_with_its_names() -> None:
    taken = {each.module: each.names for each in parse("store.py").imports}
    assert taken == {"__future__": ("annotations",), "json": (), "app.base": ("Base", "Missing")}
    assert {each.module: each.names for each in parse("store.ts").imports} == {"./store": ("Store", "Item")}
    assert {each.module: each.names for each in parse("store.php").imports}["App"] == ("Reader", "Writer")


@pytest.mark.parametrize(
    ("path", "head", "language"),
    [
        ("a/b.py", b"", "python"),
        ("Dockerfile.dev", b"", "dockerfile"),
        ("script", b"#!/usr/bin/env python3\n", "python"),
        ("run", b"#!/bin/sh\n", "bash"),
        ("a.h", b"#pragma once\nclass Store {\n", "cpp"),
        ("a.h", b"int main(void);\n", "c"),
        ("a.unknown", b"\x7fELF", None),
        ("Makefile", b"", "makefile"),
        ("no-extension", b"hello", None),
    ],
)
def test_a_language_is_told_by_name_and_first_bytes(path: str, head: bytes, language: str | None) -> None:
    assert language_of(path, head) == language


def test_broken_syntax_is_said_and_the_rest_is_read() -> None:
    content = (
        b"def good():\n    return 1\n\n\ndef bad(:\n    return (\n\n\nclass Fine:\n    def also(self):\n        pass\n"
    )
    parsed = file_parse(path="a.py", content=content)
    assert "syntax error near line" in parsed.broken
    assert "good" in {symbol.name for symbol in parsed.symbols}
    check_ranges(parsed, content)


def test_what_is_no_text_is_said() -> None:
    assert file_parse(path="a.py", content=b"\x00\x01\x02").broken.startswith("binary")
    late = b"x = 1\n" * 2_000 + b"\x00"
    assert all("\x00" not in chunk.text for chunk in file_parse(path="a.py", content=late).chunks)
    wide = "x = 'ä'\n".encode("utf-16")
    assert [symbol.name for symbol in file_parse(path="a.py", content=wide).symbols] == ["x"]
    latin = "def f():\n    return 'ä'\n".encode("latin-1")
    assert [symbol.name for symbol in file_parse(path="a.py", content=latin).symbols] == ["f"]


def test_large_files_are_read_by_lines_and_larger_ones_not_at_all() -> None:
    lines = file_parse(path="a.py", content=b"x = 1\n" * (PARSED_BYTES // 6 + 1))
    assert "read by lines" in lines.broken
    assert {chunk.kind for chunk in lines.chunks} == {"lines"}
    huge = file_parse(path="a.js", content=b"a" * (READ_BYTES + 1))
    assert "too large" in huge.broken
    assert huge.chunks == ()


def test_generated_files_are_known() -> None:
    assert file_parse(path="a.min.js", content=b"var a=1").is_generated
    assert file_parse(path="a.go", content=b"// Code generated by protoc. DO NOT EDIT.\npackage a\n").is_generated
    assert file_parse(path="a.js", content=b"var a=1;" * 2_000).is_generated
    assert not file_parse(path="a.go", content=b"package a\n").is_generated


@pytest.mark.slow
@pytest.mark.parametrize("language", sorted(DIALECTS))
def test_hostile_files_are_bounded(language: str) -> None:
    """In a process of their own, whose time and memory are bounded: what a grammar dies of is read by its lines."""
    names = {language_of(name, b""): name for name in SAMPLES}
    pool = ParserPool(processes=1)
    try:
        for piece in ("(", "a<", "{{[", "- ", "> ", "<a>", "a<b<c(d)e>", "*_[", "<<A\n", "\n" + 900 * " "):
            content = (piece * (50_000 // len(piece))).encode()
            file = ParseFile(id=1, path=names[language], blob="b", content=content)
            (batch,) = pool.submit(index_id=1, files=[file], first_chunk=1).result()
            (facts,) = batch.facts
            assert facts["state"] in ("parsed", "lines", "skipped"), piece
            assert facts["lines"] >= 1 and facts["symbols"] <= 20_000, piece
    finally:
        pool.close()


def check_ranges(parsed: ParsedFile, content: bytes) -> None:
    lines = parsed.lines
    for symbol in parsed.symbols:
        assert 1 <= symbol.start_line <= symbol.end_line <= lines, symbol
    for chunk in parsed.chunks:
        assert 1 <= chunk.start_line <= chunk.end_line <= lines, chunk
        assert 0 < len(chunk.text) <= CHUNK_LIMIT
    told = [each.line for each in parsed.references] + [each.line for each in parsed.imports]
    for line in [*told, *(todo.line for todo in parsed.todos)]:
        assert 1 <= line <= lines
    covered = {line for chunk in parsed.chunks for line in range(chunk.start_line, chunk.end_line + 1)}
    for symbol in parsed.symbols:
        assert covered.issuperset(range(symbol.start_line, symbol.end_line + 1)) or _blank_apart(
            content, set(range(symbol.start_line, symbol.end_line + 1)) - covered
        )
    for before, after in zip(parsed.chunks, parsed.chunks[1:], strict=False):
        assert before.end_line < after.start_line


def _blank_apart(content: bytes, lines: set[int]) -> bool:
    """Only blank lines are in no chunk."""
    those = content.split(b"\n")
    return all(not those[line - 1].decode("utf-8", "replace").strip() for line in lines)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(SAMPLES)), content=st.binary(max_size=2_000))
def test_any_bytes_become_a_file_whose_ranges_lie_in_it(name: str, content: bytes) -> None:
    check_ranges(file_parse(path=name, content=content), content)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    cuts=st.lists(st.tuples(st.integers(0, 1_200), st.integers(0, 60), st.text(max_size=4)), max_size=6),
)
def test_mangled_code_keeps_its_ranges(name: str, cuts: list[tuple[int, int, str]]) -> None:
    text = SAMPLES[name]
    for at, length, instead in cuts:
        text = text[:at] + instead + text[at + length :]
    content = text.encode("utf-8", "replace").replace(b"\x00", b"")
    check_ranges(file_parse(path=name, content=content), content)
