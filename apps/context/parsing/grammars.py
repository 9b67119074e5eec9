"""Grammars, each loaded with the first file of its language. They come in packages, nothing is downloaded."""

from __future__ import annotations

import importlib
import threading
import time
from dataclasses import dataclass

from tree_sitter import Language, Node, Parser, Query, QueryCursor, Tree

from apps.context.parsing.dialects.base import Dialect
from apps.context.parsing.dialects.registry import DIALECTS

#: From this size on a file is parsed under the clock, which costs some time itself.
_WATCHED_BYTES = 48 * 1024
_READ_BYTES = 8 * 1024
#: What hostile files are stopped at; a megabyte of honest code takes half a second.
PARSE_SECONDS = 3.0
#: How many half-finished matches of a query are kept.
_MATCH_LIMIT = 16_384
#: How deep in the tree matches begin. People's code stays far below; the time of a query grows with the square of it.
_DEPTH = 400
#: How many children an error may have, and how many nodes are looked at to find such ones.
_FLAT, _LOOKED_AT = 6_000, 50_000


class ParseStopped(Exception):
    """The grammar took too long over the file."""


@dataclass(frozen=True, slots=True)
class Grammar:
    dialect: Dialect
    language: Language
    query: Query

    def parse(self, content: bytes) -> Tree:
        """The syntax tree; ParseStopped where it takes too long."""
        tree = self._parse(content)
        if self.dialect.respelt is not None and tree.root_node.has_error:
            respelt = self._parse(self.dialect.respelt(content))
            return tree if respelt.root_node.has_error else respelt
        return tree

    def _parse(self, content: bytes) -> Tree:
        parser = Parser(self.language)
        if len(content) < _WATCHED_BYTES:
            return parser.parse(content)
        end = time.thread_time() + PARSE_SECONDS

        def read(offset: int, _: object) -> bytes:
            # Grammars go back and read again: whole rests would cost the square of the file.
            return content[offset : offset + _READ_BYTES]

        def is_late(*_: object) -> bool:
            return time.thread_time() > end

        try:
            tree = parser.parse(read, progress_callback=is_late)
        except ValueError as error:
            raise ParseStopped from error
        if tree is None:
            raise ParseStopped
        return tree

    def captures(self, root: Node) -> dict[str, list[Node]]:
        """What the dialect's query finds; ParseStopped for trees over which that would take too long."""
        if root.has_error and _is_wreck(root):
            raise ParseStopped
        # Without a progress callback: in tree-sitter 0.26.1 a query with one crashes the process.
        cursor = QueryCursor(self.query, match_limit=_MATCH_LIMIT)
        cursor.set_max_start_depth(_DEPTH)
        return cursor.captures(root)


def _is_wreck(root: Node) -> bool:
    """The grammar gave up on a long stretch: it lies flat under one error; queries take the square of its length."""
    waiting, left = [root], _LOOKED_AT
    while waiting and left > 0:
        node = waiting.pop()
        if node.is_error and node.child_count > _FLAT:
            return True
        for child in node.children:
            left -= 1
            if child.has_error:
                waiting.append(child)
    return False


_grammars: dict[str, Grammar] = {}
_loading = threading.Lock()


def grammar_of(language: str) -> Grammar | None:
    """The grammar of a language; None: it has none."""
    grammar = _grammars.get(language)
    if grammar is None and language in DIALECTS:
        with _loading:
            grammar = _grammars.get(language) or _load(DIALECTS[language])
            _grammars[language] = grammar
    return grammar


def _load(dialect: Dialect) -> Grammar:
    package = importlib.import_module(dialect.package)
    language = Language(getattr(package, dialect.factory)())
    return Grammar(dialect, language, Query(language, dialect.query))
