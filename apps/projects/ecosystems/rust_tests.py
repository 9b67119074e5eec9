"""Tests that stand in a Rust source file beside the code: telling them apart, and putting them back as they were."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from apps.projects.ecosystems.named_results import names_numbered
from apps.projects.ecosystems.types import OriginalTests

#: What hides braces and brackets: comments, strings, characters.
_OPAQUE = re.compile(r"//|/\*|\b(?:b|c)?r#*\"|(?:b|c)?\"|'")
_BLOCK_COMMENT = re.compile(r"/\*|\*/")
_STRING = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)
_CHARACTER = re.compile(r"'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]{1,8}\}|.)|[^\\'\n])'")
_ATTRIBUTE = re.compile(r"#\s*\[")
_TEST_ATTRIBUTE = re.compile(
    r"#\s*\[\s*(cfg\s*\(\s*test\s*\)|cfg\s*\(\s*(all|any)\s*\([^\]]*\btest\b|(\w+\s*::\s*)*(test|rstest|test_case|quickcheck)\b)"
)
_ITEM = re.compile(
    r"\s*(?:pub\s*(?:\([^)]*\))?\s*)?(?:(?:unsafe|async|default|const(?=\s+(?:fn|unsafe|async)))\s+|extern\s+(?:\"\s*\"\s*)?(?=fn))*"
    r"(mod|fn|use|struct|enum|union|impl|trait|static|const|type|extern|macro_rules\s*!)\s*(\w*)"
)
_OPEN, _CLOSE = "({[", ")}]"
_DOC_LINE = re.compile(r"^\s*//[/!](.*)$")


@dataclass(frozen=True)
class _Span:
    """An item that is compiled for tests alone: where it stands, and its name within the modules around it."""

    name: str
    start: int
    end: int


def rust_tests_restore(old: str, new: str) -> OriginalTests:
    """``new`` with the tests in it as they are in ``old``. Tests that only ``new`` has stay."""
    before, after = _spans(old), _spans(new)
    documented = _doc_tests(old) <= _doc_tests(new)
    if before is None or after is None:
        return OriginalTests(new, complete=False)
    complete = documented and not _loose(old, before)
    there = {span.name: span for span in after}
    text = new
    moved: list[str] = []
    for span in before:
        original = old[span.start : span.end]
        if span.name not in there:
            # A module's inside can't be found once the module is gone.
            complete = complete and "::" not in span.name
            moved.append(original)
    for span in sorted(after, key=lambda span: span.start, reverse=True):
        original = next((old[was.start : was.end] for was in before if was.name == span.name), "")
        if original:
            text = text[: span.start] + original + text[span.end :]
    return OriginalTests("\n\n".join([text.rstrip("\n"), *moved]) + "\n" if moved else text, complete)


def _spans(source: str) -> list[_Span] | None:
    """The items for tests, in order; None when the source can't be followed."""
    try:
        mask = _mask(source)
        spans = list(_items(mask, 0, len(mask), ""))
    except (ValueError, RecursionError):
        return None
    numbered = names_numbered(span.name for span in spans)
    return [_Span(name, span.start, span.end) for name, span in zip(numbered, spans, strict=True)]


def _mask(source: str) -> str:
    """The source with what comments, strings and characters hold blanked out, at the same length."""
    parts: list[str] = []
    at = 0
    while (match := _OPAQUE.search(source, at)) is not None:
        start, opening = match.start(), match.group()
        if opening == "//":
            end = source.find("\n", start)
            end = len(source) if end < 0 else end
        elif opening == "/*":
            end = _comment_end(source, match.end())
        elif opening == "'":
            character = _CHARACTER.match(source, start)
            # Otherwise it is a lifetime's.
            end = character.end() if character else start + 1
        elif "r" in opening:
            closing = '"' + "#" * opening.count("#")
            end = source.index(closing, match.end()) + len(closing)
        else:
            string = _STRING.match(source, match.end())
            if string is None:
                raise ValueError("a string without an end")
            end = string.end()
        parts += [source[at:start], " " * (end - start)]
        at = end
    return "".join([*parts, source[at:]])


def _comment_end(source: str, at: int) -> int:
    depth = 1
    while depth:
        match = _BLOCK_COMMENT.search(source, at)
        if match is None:
            raise ValueError("a comment without an end")
        depth += 1 if match.group() == "/*" else -1
        at = match.end()
    return at


def _items(mask: str, at: int, end: int, prefix: str) -> Iterator[_Span]:
    """Items for tests among the items from ``at`` to ``end``, and among those of the modules there."""
    while at < end:
        start = at
        is_test = False
        while (attribute := re.compile(r"\s*#\s*\[").match(mask, at, end)) is not None:
            opening = attribute.end() - 1
            closing = _group_end(mask, opening, end)
            start = start if is_test or mask[start:at].strip() else attribute.start() + _blank(attribute.group())
            is_test = is_test or _TEST_ATTRIBUTE.match(mask, attribute.start() + _blank(attribute.group())) is not None
            at = closing
        item = _ITEM.match(mask, at, end)
        if item is None:
            # A macro's call, an inner attribute, or nothing any more: on with the next token.
            at = _token_end(mask, at, end)
            continue
        kind, name = item.groups()
        body, stop = _item_end(mask, item.end(), end, by_semicolon=kind in ("use", "static", "const", "type"))
        full = f"{prefix}{kind} {name}"
        if is_test:
            yield _Span(full, start, stop)
        elif kind == "mod" and body:
            yield from _items(mask, body + 1, stop - 1, f"{prefix}{name}::")
        at = stop


def _blank(text: str) -> int:
    return len(text) - len(text.lstrip())


def _token_end(mask: str, at: int, end: int) -> int:
    while at < end and mask[at].isspace():
        at += 1
    if at >= end:
        return end
    if mask[at] in _OPEN:
        return _group_end(mask, at, end)
    word = re.compile(r"\w+").match(mask, at, end)
    return word.end() if word else at + 1


def _item_end(mask: str, at: int, end: int, *, by_semicolon: bool) -> tuple[int, int]:
    """Where an item's braces begin (0: it has none) and where it ends."""
    while at < end:
        character = mask[at]
        if character == ";":
            return 0, at + 1
        if character in _OPEN:
            closing = _group_end(mask, at, end)
            if character == "{" and not by_semicolon:
                return at, closing
            at = closing
        else:
            at += 1
    raise ValueError("an item without an end")


def _group_end(mask: str, at: int, end: int) -> int:
    """Behind the bracket that closes the one at ``at``."""
    open_brackets: list[str] = []
    for index in range(at, end):
        character = mask[index]
        if character in _OPEN:
            open_brackets.append(_CLOSE[_OPEN.index(character)])
        elif character in _CLOSE:
            if not open_brackets or open_brackets.pop() != character:
                raise ValueError("brackets that don't match")
            if not open_brackets:
                return index + 1
    raise ValueError("a bracket without its other")


def _loose(source: str, spans: list[_Span]) -> bool:
    """Whether tests stand elsewhere, such as within a macro's call."""
    mask = list(_mask(source))
    for span in spans:
        mask[span.start : span.end] = " " * (span.end - span.start)
    return _TEST_ATTRIBUTE.search("".join(mask)) is not None


def _doc_tests(source: str) -> set[str]:
    """The examples in documentation that are run as tests."""
    found: set[str] = set()
    block: list[str] | None = None
    for line in source.splitlines():
        match = _DOC_LINE.match(line)
        text = match[1].strip() if match else None
        if text is not None and text.startswith("```"):
            if block is None:
                words = set(re.split(r"[,\s]+", text[3:]))
                block = [] if not words & {"text", "ignore", "console", "sh", "bash", "toml", "json"} else None
                if block is None:
                    block = ["\0"]
            else:
                if block[:1] != ["\0"]:
                    found.add("\n".join(block))
                block = None
        elif block is not None and text is not None:
            block.append(text)
        elif text is None:
            block = None
    return found
