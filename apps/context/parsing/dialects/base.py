"""What differs between languages: where their grammar is, and a query that names what matters in it.

The captures of a query:

- a kind of symbol (``function``, ``class``, ``constant`` …): the whole definition;
- ``call``, ``type``, ``inherit``, ``name.import``: names that are used;
- ``import``: a whole statement, which ``imports_of`` reads;
- ``comment``, ``string``, ``doc`` (a docstring within what it describes), ``branch`` (one more way through the code);
- ``lead``: what stands in the lines before a definition and belongs to it (decorators, attributes);
- ``error``: what the grammar did not understand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tree_sitter import Node

from apps.context.parsing.source import Source
from apps.context.parsing.types import SymbolKind

#: What an import says: the module, and the names taken from it.
Imported = tuple[str, tuple[str, ...]]


def name_field(node: Node) -> Node | None:
    """The usual place of a definition's name."""
    return node.child_by_field_name("name")


def body_field(node: Node) -> Node | None:
    return node.child_by_field_name("body")


def no_imports(_: Node, __: str) -> Iterator[Imported]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a part of a document begins: a heading, a table, a key. It reaches to the next of its level or above."""

    #: Its first byte.
    start: int
    level: int
    name: str
    kind: SymbolKind
    start_line: int
    #: Where it ends, if the grammar says so; 0: with the next one.
    end_line: int = 0


@dataclass(frozen=True, slots=True)
class Dialect:
    language: str
    #: The module that carries the grammar, and the function in it.
    package: str
    query: str
    factory: str = "language"
    #: The node that holds a definition's name, or the name itself.
    name_of: Callable[[Node], Node | str | None] = name_field
    #: What an ``import`` says, given its node and text.
    imports_of: Callable[[Node, str], Iterator[Imported]] = no_imports
    #: What a definition stands in although the file doesn't nest it there (a Go method's receiver); empty: nothing.
    owner_of: Callable[[Node], str] | None = None
    #: Where a definition's body stands; what has none (a declaration) is no chunk of its own.
    body_of: Callable[[Node], Node | None] = body_field
    #: Definitions that are chunks although they have no body.
    chunked: frozenset[str] = frozenset()
    #: The same number of bytes, written so that the grammar understands more; tried after a syntax error.
    respelt: Callable[[bytes], bytes] | None = None
    #: For documents, which have sections rather than definitions.
    marks_of: Callable[[Source, dict[str, list[Node]]], list[Mark]] | None = None
    #: What a document links to, where no statement says so.
    links_of: Callable[[Source, dict[str, list[Node]]], Iterator[tuple[Node, str]]] | None = None
