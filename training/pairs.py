"""A pair: what a doc comment says of a piece of code, and the piece without it. The rules for all languages."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

#: As much of a piece of code as an index keeps in one chunk.
TEXT_LIMIT = 6_000
MIN_LINES = 3
#: Fewer words name a thing rather than say what it does.
MIN_WORDS = 4
_MAX_QUERY = 300
_MAX_PROSE = 900
#: So much more has to be said for the whole prose to count as a question of its own.
_PROSE_WORDS = 8
_WORD = re.compile(r"[A-Za-z]{2,}")
#: Where prose ends and the description of parameters begins, in the customs of several languages.
_SECTION = re.compile(
    r"^\s*(?:(?:args?|arguments|parameters?|params|returns?|raises|yields?|examples?|notes?|see also|references"
    r"|attributes|keyword args|panics|errors|safety)\s*:?\s*$"
    r"|(?:args|arguments|parameters|params|returns|raises|yields|examples?)\s*:"
    r"|:\w+|[@\\]\w+|>>>|\.\. |```|#+ |<p|<pre)",
    re.IGNORECASE,
)
_TAGS = re.compile(r"\{@\w+ ([^}]*)\}|</?\w+[^>]{0,80}>")
_SENTENCE = re.compile(r"(?<=[a-z\)\]`'\"])\.\s")

#: Others' code within a package, tests, and what a program wrote.
SKIPPED_PATH = re.compile(
    r"(?:^|/)(?:_?vendor(?:ed)?|third[_-]party|externals?|_external|site-packages|node_modules)(?:/|$)"
    r"|\.dist-info/|\.data/"
    r"|(?:^|/)(?:tests?|testing|_tests?|__tests__|testdata|spec|specs|benchmarks?|examples?|fixtures)/"
    r"|(?:^|/)(?:test_[^/]*|[^/]*_test|conftest)\.\w+$|\.(?:test|spec|min)\.\w+$"
    r"|_pb2(?:_grpc)?\.py$|/_?generated/|/gapic/|/graph_objs/|\.pb\.go$|\.d\.[mc]?ts$",
    re.IGNORECASE,
)


class Pair(NamedTuple):
    language: str
    #: What people would ask, and all of the prose where it says a good deal more; else empty.
    query: str
    prose: str
    path: str
    qualified_name: str
    text: str


def words_of(text: str) -> list[str]:
    return _WORD.findall(text)


def query_key(query: str) -> str:
    """Queries with the same words in the same order are one."""
    return " ".join(words_of(query.lower()))


def code_key(text: str) -> str:
    """Code that differs in nothing but its spaces is one."""
    return hashlib.md5("".join(text.split()).encode(), usedforsecurity=False).hexdigest()


def lines_kept(lines: list[str]) -> str:
    """The piece's text; empty where it is too short to be found by what it does."""
    kept = [line for line in lines if line.strip()]
    return "\n".join(kept)[:TEXT_LIMIT] if len(kept) >= MIN_LINES else ""


def first_line(docstring: str) -> str:
    """What Python's docstrings are known by: their first line."""
    return docstring.strip().partition("\n")[0].strip()


def first_sentence(comment: str, *, name: str) -> str:
    """What other doc comments are known by; ``Foo returns x`` becomes ``returns x``, or it would give the name away."""
    said: list[str] = []
    for line in _TAGS.sub(lambda found: found[1] or "", comment).strip().split("\n"):
        if not line.strip() or _SECTION.match(line):
            break
        said.append(line.strip())
    sentence = _SENTENCE.split(" ".join(said))[0].strip()
    head, _, rest = sentence.partition(" ")
    return rest.strip() if head.strip("`*()") == name else sentence


def query_of(told: str) -> str:
    """The query, or nothing where it is none: too short, too long, or not in plain English letters."""
    fits = told.isascii() and len(told) < _MAX_QUERY and len(words_of(told)) >= MIN_WORDS
    return told if fits else ""


def prose_of(docstring: str, query: str) -> str:
    """All of what is said before parameters are described; empty where that is hardly more than the query."""
    said: list[str] = []
    for line in docstring.strip().split("\n"):
        if _SECTION.match(line):
            break
        said.append(line.strip())
    prose = "\n".join(said)[:_MAX_PROSE].strip()
    return prose if len(words_of(prose)) > len(words_of(query)) + _PROSE_WORDS else ""
