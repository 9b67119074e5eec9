"""From what the grammar found to symbols: which stands in which, what describes it, how many ways lead through it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from tree_sitter import Node

from apps.context.parsing.dialects.base import Dialect
from apps.context.parsing.source import Source
from apps.context.parsing.types import Symbol, SymbolKind

SIGNATURE_LIMIT = 300
DOCSTRING_LIMIT = 2_000
NAME_LIMIT = 200
#: Deeper than people nest: generated or hostile. What stands deeper counts as part of what it stands in.
DEPTH_LIMIT = 24
SYMBOL_LIMIT = 20_000

FUNCTIONS = frozenset({"function", "method"})
CONTAINERS = frozenset({"class", "interface", "struct", "enum", "trait", "module", "namespace", "impl"})
_LEAVES = ("type_alias", "variable", "constant", "macro", "table", "rule")
#: The first that names a definition wins, so the general ones come last.
KINDS = (*sorted(FUNCTIONS), *sorted(CONTAINERS - {"class"}), "class", *_LEAVES)
_SPACE = re.compile(r"\s+")
_COMMENT_MARKS = re.compile(r"^\s*(?:/\*[*!]*|\*+/|\*|///?!?|#+|--+|<!--|;+)\s?|\s*(?:\*+/|-->)\s*$")
_QUOTES = re.compile(r"^[A-Za-z]{0,2}(?:\"\"\"|'''|\"|')|(?:\"\"\"|'''|\"|')$")


@dataclass(slots=True)
class Definition:
    """A symbol in the making; ``start`` and ``end`` are bytes, lines are inclusive."""

    kind: str
    name: str
    start: int
    end: int
    #: Where the body begins, or the end.
    body: int
    start_line: int
    end_line: int
    #: With the comments before it.
    lead_line: int
    name_start: int = -1
    parent: Definition | None = None
    qualified_name: str = ""
    docstring: str = ""
    branches: int = 0
    children: list[Definition] = field(default_factory=list)

    #: It is a chunk of its own.
    is_chunk: bool = False

    @property
    def is_function(self) -> bool:
        return self.kind in FUNCTIONS

    def symbol(self, source: Source) -> Symbol:
        kind = cast(SymbolKind, {"impl": "class", "type_alias": "type"}.get(self.kind, self.kind))
        return Symbol(
            self.name,
            self.qualified_name,
            kind,
            self.start_line,
            self.end_line,
            signature_of(source, self),
            self.docstring,
            self.branches + 1 if self.is_function else 0,
        )


def signature_of(source: Source, definition: Definition) -> str:
    """What stands before the body, on one line; of what has no body, the first line."""
    end = definition.body
    if end >= definition.end:
        end = min(definition.end, source.offset_of(source.line_of(definition.start) + 1))
    text = source.text(definition.start, min(end, definition.start + 4 * SIGNATURE_LIMIT))
    return _SPACE.sub(" ", text).strip().rstrip("{=:").rstrip()[:SIGNATURE_LIMIT]


def comment_text(text: str) -> str:
    """A comment's words, without its marks."""
    lines = [_COMMENT_MARKS.sub("", line).rstrip() for line in text.split("\n")]
    return "\n".join(lines).strip()[:DOCSTRING_LIMIT]


def string_text(text: str) -> str:
    """A string's words, without its quotes."""
    lines = [line.strip() for line in _QUOTES.sub("", text.strip()).split("\n")]
    return "\n".join(lines).strip()[:DOCSTRING_LIMIT]


class Leads:
    """The comments and decorators that stand on the lines right before a definition."""

    def __init__(self, source: Source, comments: Sequence[Node], leads: Sequence[Node]) -> None:
        self._source = source
        #: By the line on which it ends: the line on which it begins, and its bytes where it is a comment.
        self._ending: dict[int, tuple[int, int, int]] = {}
        for nodes, is_comment in ((comments, True), (leads, False)):
            for node in nodes:
                start, end = node.start_byte, node.end_byte
                line = source.line_of(start)
                alone = not source.content[source.offset_of(line) : start].strip()
                if alone:
                    last = source.last_line_of(start, end)
                    self._ending[last] = (line, start, end) if is_comment else (line, -1, -1)

    def before(self, line: int) -> tuple[int, int, str]:
        """The first line with decorators, the first one with comments, and the text of the comments."""
        decorated = first = line
        comments: list[str] = []
        while (found := self._ending.get(first - 1)) is not None and found[0] < first:
            first = found[0]
            if found[1] < 0:
                decorated = first
            elif len(comments) < 200:
                comments.append(self._source.text(found[1], found[2]))
        return decorated, first, comment_text("\n".join(reversed(comments)))


class Outline:
    """All definitions of a file, nested."""

    def __init__(self, source: Source, dialect: Dialect, found: dict[str, list[Node]]) -> None:
        self.source = source
        leads = Leads(source, found.get("comment", ()), found.get("lead", ()))
        self.definitions = self._definitions(dialect, found, leads)
        self._nest()
        self._bounds, self._owners = self._segments()

    def owner(self, offset: int) -> Definition | None:
        """The innermost function or container around a byte."""
        return self._owners[bisect_right(self._bounds, offset)]

    def count_branches(self, nodes: Iterable[Node]) -> int:
        """Give each decision to the function that it stands in; returns how many stand in none."""
        outside = 0
        for node in nodes:
            owner = self.owner(node.start_byte)
            while owner is not None and not owner.is_function:
                owner = owner.parent
            if owner is None:
                outside += 1
            else:
                owner.branches += 1
        return outside

    def describe(self, docs: Iterable[Node]) -> str:
        """Give each docstring to what it describes; returns the file's own."""
        whole = ""
        for node in docs:
            text = string_text(self.source.text(node.start_byte, node.end_byte))
            owner = self.owner(node.start_byte)
            if owner is None:
                whole = whole or text
            else:
                owner.docstring = text
        return whole

    def _definitions(self, dialect: Dialect, found: dict[str, list[Node]], leads: Leads) -> list[Definition]:
        made: dict[tuple[int, int], Definition] = {}
        for kind in KINDS:
            for node in found.get(kind, ()):
                definition = self._definition(dialect, kind, node, leads)
                if definition is not None and len(made) < SYMBOL_LIMIT:
                    made.setdefault((definition.start, definition.end), definition)
        return sorted(made.values(), key=lambda each: (each.start, -each.end))

    def _definition(self, dialect: Dialect, kind: str, node: Node, leads: Leads) -> Definition | None:
        source = self.source
        named = dialect.name_of(node)
        name_start = -1
        if named is None:
            return None
        if isinstance(named, str):
            name = named
        else:
            name_start = named.start_byte
            name = source.text(name_start, named.end_byte)
        name = _SPACE.sub(" ", name).strip()[:NAME_LIMIT]
        if not name:
            return None
        start, end = node.start_byte, node.end_byte
        line = source.line_of(start)
        decorated, first, comment = leads.before(line)
        body = dialect.body_of(node)
        made = Definition(
            kind,
            name,
            start,
            end,
            body.start_byte if body is not None else end,
            decorated,
            source.last_line_of(start, end),
            first,
            name_start,
            docstring=comment,
            is_chunk=kind in dialect.chunked or (body is not None and (kind in FUNCTIONS or kind in CONTAINERS)),
        )
        if dialect.owner_of is not None and (owner := dialect.owner_of(node)):
            made.qualified_name = owner
            if kind == "function":
                made.kind = "method"
        return made

    def _nest(self) -> None:
        stack: list[Definition] = []
        kept: list[Definition] = []
        for definition in self.definitions:
            while stack and stack[-1].end <= definition.start:
                stack.pop()
            if stack and stack[-1].end < definition.end:
                continue  # a grammar that recovered from an error can make ranges that overlap
            if len(stack) >= DEPTH_LIMIT:
                continue
            parent = stack[-1] if stack else None
            if parent is not None:
                definition.parent = parent
                parent.children.append(definition)
                if definition.kind == "function" and parent.kind in CONTAINERS - {"namespace", "module"}:
                    definition.kind = "method"
            prefix = [parent.qualified_name] if parent is not None else []
            if definition.qualified_name:
                prefix.append(definition.qualified_name)
            definition.qualified_name = ".".join([*prefix, definition.name])[-4 * NAME_LIMIT :]
            kept.append(definition)
            if definition.kind in FUNCTIONS or definition.kind in CONTAINERS:
                stack.append(definition)
        self.definitions = kept

    def _segments(self) -> tuple[list[int], list[Definition | None]]:
        bounds: list[int] = []
        owners: list[Definition | None] = [None]
        stack: list[Definition] = []

        def close(until: int) -> None:
            while stack and stack[-1].end <= until:
                ended = stack.pop()
                bounds.append(ended.end)
                owners.append(stack[-1] if stack else None)

        for definition in self.definitions:
            if definition.kind not in FUNCTIONS and definition.kind not in CONTAINERS:
                continue
            close(definition.start)
            bounds.append(definition.start)
            owners.append(definition)
            stack.append(definition)
        close(len(self.source.content) + 1)
        return bounds, owners
