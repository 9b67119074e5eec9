"""Markdown, HTML, CSS, YAML, TOML and JSON: they have sections and keys rather than functions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from apps.context.parsing.dialects.base import Dialect, Imported, Mark
from apps.context.parsing.source import Source

Found = dict[str, list[Node]]

_MARKDOWN = """
[(atx_heading) (setext_heading)] @heading
(html_block) @comment
(ERROR) @error
"""
#: Single nodes alone: with children in its patterns a query takes the square of the number of elements.
_HTML = """
(tag_name) @tag
(attribute_name) @attribute
(attribute_value) @value
[(script_element) (style_element)] @part
(comment) @comment
(ERROR) @error
"""
_CSS = """
[(rule_set) (media_statement) (keyframes_statement) (supports_statement) (at_rule)] @part
(import_statement) @import
(class_selector (class_name) @type)
(id_selector (id_name) @type)
(comment) @comment
(string_value) @string
(ERROR) @error
"""
_YAML = """
(block_mapping_pair key: (_)) @part
(flow_pair key: (_)) @part
(comment) @comment
[(double_quote_scalar) (single_quote_scalar) (block_scalar)] @string
(ERROR) @error
"""
_TOML = """
[(table) (table_array_element)] @heading
(pair) @part
(comment) @comment
(string) @string
(ERROR) @error
"""
_JSON = """
(pair) @part
(comment) @comment
(ERROR) @error
"""
_NAME = 120
#: Keys that are deeper are data.
_KEY_DEPTH = 2
_MARKS = 4_000
_SPACE = re.compile(r"\s+")
_HEADING_TAG = re.compile(rb"[hH][1-6]")
_HEADING_END = re.compile(r"</[hH][1-6]")
_TAGS = re.compile(r"<[^>]*>")
_QUOTED = re.compile(r"[\"']([^\"'\n]+)[\"']")
_URL = re.compile(r"(?:@import)[\s=]*(?:url\()?[\"']?([^\"'\s>)]+)")


def _clean(text: str) -> str:
    return _SPACE.sub(" ", text).strip()[:_NAME]


def _lines(source: Source, node: Node) -> tuple[int, int]:
    start = node.start_byte
    return source.line_of(start), source.last_line_of(start, node.end_byte)


def _markdown(source: Source, found: Found) -> list[Mark]:
    marks = []
    for node in found.get("heading", ()):
        text = source.text(node.start_byte, min(node.end_byte, node.start_byte + 1_000)).strip()
        if node.type == "setext_heading":
            title, _, underline = text.rpartition("\n")
            level = 1 if underline.startswith("=") else 2
        else:
            level, title = len(text) - len(text.lstrip("#")), text.strip("#")
        if name := _clean(title):
            marks.append(Mark(node.start_byte, level, name, "section", source.line_of(node.start_byte)))
    return marks


def _html(source: Source, found: Found) -> list[Mark]:
    marks = []
    for node in found.get("tag", ()):
        start = node.start_byte
        opens = source.content[start - 1 : start] == b"<"
        if not opens or not _HEADING_TAG.fullmatch(source.content, start, node.end_byte):
            continue
        text = source.text(start, start + 2_000)
        if name := _clean(_TAGS.sub(" ", _HEADING_END.split(text, maxsplit=1)[0].partition(">")[2])):
            marks.append(Mark(start, int(text[1]), name, "section", source.line_of(start)))
    for attribute, value in _attributes(source, found):
        if attribute == "id" and (name := _clean(source.text(value.start_byte, value.end_byte))):
            # An element that is named is found by its name; it opens no section.
            line = source.line_of(value.start_byte)
            marks.append(Mark(value.start_byte, 9, f"#{name}", "key", line, line))
    for node in found.get("part", ()):
        first, last = _lines(source, node)
        if last > first:
            marks.append(Mark(node.start_byte, 8, node.type.removesuffix("_element"), "section", first, last))
    return marks


def _attributes(source: Source, found: Found) -> Iterator[tuple[str, Node]]:
    """The names of attributes and their values."""
    names = {node.end_byte: node for node in found.get("attribute", ())}
    for value in found.get("value", ()):
        # Between them are an equals sign and a quote, or spaces.
        start = value.start_byte
        for end in range(start - 1, max(0, start - 6), -1):
            if (name := names.get(end)) is not None:
                yield source.text(name.start_byte, name.end_byte).lower(), value
                break


def _html_imports(source: Source, found: Found) -> Iterator[tuple[Node, str]]:
    """What the page loads or links to, but for places in itself."""
    for attribute, value in _attributes(source, found):
        target = source.text(value.start_byte, min(value.end_byte, value.start_byte + 500))
        if attribute == "src" or (attribute == "href" and not target.startswith(("#", "http", "mailto:"))):
            yield value, target


def _css(source: Source, found: Found) -> list[Mark]:
    marks = []
    for node in found.get("part", ()):
        first, last = _lines(source, node)
        head = source.text(node.start_byte, min(node.end_byte, node.start_byte + 400)).split("{")[0]
        depth = _depth(node, frozenset({"media_statement", "supports_statement", "keyframes_statement", "at_rule"}))
        if name := _clean(head):
            marks.append(Mark(node.start_byte, 1 + depth, name, "rule", first, last))
    return marks


def _keys(source: Source, found: Found) -> list[Mark]:
    marks = []
    for node in found.get("part", ()):
        depth = _depth(node, frozenset({"pair", "block_mapping_pair", "flow_pair"}))
        if depth >= _KEY_DEPTH:
            continue
        key = node.child_by_field_name("key") or (node.named_children[0] if node.named_children else None)
        if key is None:
            continue
        first, last = _lines(source, node)
        if name := _clean(source.text(key.start_byte, min(key.end_byte, key.start_byte + 400)).strip("\"'")):
            marks.append(Mark(node.start_byte, 1 + depth, name, "key", first, last))
    return marks


def _toml(source: Source, found: Found) -> list[Mark]:
    marks = []
    for node in found.get("heading", ()):
        line = source.line_of(node.start_byte)
        name = _clean(source.lines_text(line, line).split("#")[0].strip().strip("[]"))
        if name:
            marks.append(Mark(node.start_byte, 1, name, "section", line))
    for node in found.get("part", ()):
        key = node.named_children[0] if node.named_children else None
        within = node.parent
        if key is None or within is None:
            continue
        if within.type in ("document", "table", "table_array_element"):
            first, last = _lines(source, node)
            name = _clean(source.text(key.start_byte, key.end_byte).strip("\"'"))
            marks.append(Mark(node.start_byte, 1 if within.type == "document" else 2, name, "key", first, last))
    return marks


def _depth(node: Node, kinds: frozenset[str]) -> int:
    """In how many of these kinds the node stands; no more than matter."""
    depth, above = 0, node.parent
    while above is not None and depth < _KEY_DEPTH:
        depth += above.type in kinds
        above = above.parent
    return depth


def _imports_of(_: Node, text: str) -> Iterator[Imported]:
    match = _URL.search(text) or _QUOTED.search(text)
    if match:
        yield match[1], ()


MARKDOWN = Dialect("markdown", "tree_sitter_markdown", _MARKDOWN, marks_of=_markdown)
HTML = Dialect("html", "tree_sitter_html", _HTML, marks_of=_html, links_of=_html_imports)
CSS = Dialect("css", "tree_sitter_css", _CSS, imports_of=_imports_of, marks_of=_css)
YAML = Dialect("yaml", "tree_sitter_yaml", _YAML, marks_of=_keys)
TOML = Dialect("toml", "tree_sitter_toml", _TOML, marks_of=_toml)
JSON = Dialect("json", "tree_sitter_json", _JSON, marks_of=_keys)
