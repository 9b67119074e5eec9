"""Search by name: definitions, exactly, by their qualified name, by beginning, by part, by the words in it."""

from __future__ import annotations

import re
from typing import Any

from django.db import connection

from apps.context.searching.candidates import Candidate, Scope, visible_condition
from apps.context.terms import word_terms

_LOOKED_AT = 3_000
_SEPARATORS = re.compile(r"::|->|[.#/\\:]+")
#: What each way to be meant is worth; kinds that people look for come first among equals.
_EXACT, _FOLDED, _QUALIFIED, _BEGINNING, _PART, _WORDS = 1.0, 0.9, 0.95, 0.6, 0.4, 0.35
_KINDS = {"class": 0.02, "interface": 0.02, "function": 0.015, "method": 0.01, "struct": 0.02, "trait": 0.02}

_SYMBOLS = """
SELECT symbol.id, file.id, file.path, file.blob, file.language, symbol.kind, symbol.qualified_name, symbol.start_line,
    symbol.end_line, symbol.signature, symbol.name
FROM context_codesymbol AS symbol JOIN context_codefile AS file ON file.id = symbol.file_id
WHERE symbol.index_id = %(index)s AND {condition} AND {visible}
ORDER BY length(symbol.name), symbol.id LIMIT {limit}
"""


def symbol_search(*, scope: Scope, query: str, limit: int) -> list[Candidate]:
    """Definitions whose name is meant, best first."""
    asked = query.strip().removesuffix("()").strip()
    parts = [part for part in _SEPARATORS.split(asked) if part]
    if not parts:
        return []
    name = parts[-1].strip()
    folded = name.lower()
    qualified = ".".join(part.strip().lower() for part in parts)
    found = _rows(scope, "symbol.folded = %(folded)s", {"folded": folded})
    if len(found) < limit and len(folded) > 1:
        words = [word for piece in re.findall(r"\w+", name) for word in _words(piece)]
        found += _rows(
            scope,
            "symbol.folded LIKE ALL(%(patterns)s) AND symbol.folded <> %(folded)s",
            {"folded": folded, "patterns": [f"%{_like(word)}%" for word in words] or [f"%{_like(folded)}%"]},
        )
    scored = []
    for row in found:
        score = _score(row[10], row[6], wanted=name, qualified=qualified, dotted=len(parts) > 1)
        if score > 0:
            kind = _KINDS.get(row[5], 0.0)
            scored.append((score + kind - 0.0001 * min(len(row[6]), 100), row))
    scored.sort(key=lambda pair: (-pair[0], pair[1][2], pair[1][7]))
    return [Candidate(*(*row[:9], "", round(score, 4), row[9], row[7])) for score, row in scored[:limit]]


def _words(piece: str) -> list[str]:
    terms = word_terms(piece)
    return list(terms[1:] or terms)


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _rows(scope: Scope, condition: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    conditions = [condition]
    if scope.filters.kinds:
        conditions.append("symbol.kind = ANY(%(kinds)s)")
    if scope.file_ids is not None:
        conditions.append("file.id = ANY(%(files)s)")
    statement = _SYMBOLS.format(
        condition=" AND ".join(conditions), visible=visible_condition(scope.view), limit=_LOOKED_AT
    )
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            {
                **scope.view.parameters,
                **parameters,
                "kinds": list(scope.filters.kinds),
                "files": list(scope.file_ids or ()),
            },
        )
        return list(cursor.fetchall())


def _score(name: str, qualified_name: str, *, wanted: str, qualified: str, dotted: bool) -> float:
    folded, whole = wanted.lower(), qualified_name.lower()
    if dotted:
        if whole == qualified:
            return _EXACT
        if whole.endswith(f".{qualified}"):
            return _QUALIFIED
        # A module or package may stand in front, which qualified names don't have.
        if qualified.endswith(f".{whole}"):
            return _QUALIFIED - 0.05 if "." in whole else _BEGINNING
        return _PART if name.lower() == folded else 0.0
    if name == wanted:
        return _EXACT
    if name.lower() == folded:
        return _FOLDED
    if name.lower().startswith(folded):
        return _BEGINNING
    return _PART if folded in name.lower() else _WORDS
