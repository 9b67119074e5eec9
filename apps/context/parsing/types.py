"""What a parsed file is made of. Lines count from 1, and ranges include both ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

#: A definition's kind, in the field's terms.
SymbolKind = Literal[
    "function",
    "method",
    "class",
    "interface",
    "struct",
    "enum",
    "trait",
    "type",
    "module",
    "namespace",
    "variable",
    "constant",
    "macro",
    "table",
    "section",
    "rule",
    "key",
]
ReferenceKind = Literal["call", "import", "type", "inherit", "other"]
#: ``module`` is code outside of functions and classes; ``section`` a part of a document; ``lines`` what has no grammar.
ChunkKind = Literal["function", "method", "class", "module", "section", "lines"]
ZoneKind = Literal["comment", "string", "docstring", "name"]


class Symbol(NamedTuple):
    """A definition. ``complexity`` is the cyclomatic one of functions and methods, and 0 of the rest."""

    name: str
    #: With what it stands in: ``Session.get``, dots in all languages.
    qualified_name: str
    kind: SymbolKind
    start_line: int
    end_line: int
    signature: str
    docstring: str
    complexity: int


class Reference(NamedTuple):
    """A name that is used. ``within`` is the qualified name of the function or class around it; empty at the top."""

    name: str
    line: int
    kind: ReferenceKind
    within: str


class Import(NamedTuple):
    """``module`` as it is written: a dotted name, a path or a header. ``names`` are what is taken from it, if said."""

    module: str
    names: tuple[str, ...]
    line: int


class Chunk(NamedTuple):
    """A piece of the file that is searched and embedded as one.

    ``header`` (path and qualified name) goes in front of ``text`` for text search and embedding. It depends on the
    path; one content at two paths differs in nothing else: ``chunk_header`` makes it anew.
    """

    kind: ChunkKind
    qualified_name: str
    start_line: int
    end_line: int
    header: str
    text: str


class Todo(NamedTuple):
    line: int
    text: str


class Zone(NamedTuple):
    """Bytes of the file that are no code (comments, strings, docstrings), or that name what is defined there."""

    kind: ZoneKind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What a file says. ``broken`` is what was wrong with it, for people; empty: nothing."""

    #: As ``language_of`` says it; empty: unknown, and the chunks are of lines.
    language: str
    lines: int
    chunks: tuple[Chunk, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    references: tuple[Reference, ...] = ()
    imports: tuple[Import, ...] = ()
    todos: tuple[Todo, ...] = ()
    is_generated: bool = False
    broken: str = ""
    #: In the order of the file.
    zones: tuple[Zone, ...] = field(default=(), repr=False)
    #: Decision points in code outside of functions, plus one: with the symbols' it makes the file's complexity.
    module_complexity: int = 0

    @property
    def complexity(self) -> int:
        return self.module_complexity + sum(symbol.complexity for symbol in self.symbols)


def chunk_header(*, path: str, qualified_name: str) -> str:
    """What goes in front of a chunk's text."""
    return f"{path} {qualified_name}".rstrip()
