"""Chunks that may be what was asked for, and the filters that they have to pass.

Whatever finds candidates bounds them first; visibility (the generation, a session's overlay) and filters are looked at
in pieces of the ranking, best first, until there are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection

from apps.context.types import SearchFilters, View
from apps.core.errors import InvalidInput
from apps.projects.sandbox.path_pattern import path_matcher
from apps.projects.workspace import WorkspaceError

#: How many of a ranking are looked at, one piece after the other.
_PIECES = (300, 2_000, 10_000, 50_000)
#: Where a filter leaves no more files than that, their chunks are the candidates to begin with.
NARROW_FILES = 400


@dataclass(frozen=True)
class Candidate:
    """A chunk (or a symbol) with what it takes to show it."""

    chunk_id: int
    file_id: int
    path: str
    blob: str
    language: str
    kind: str
    symbol: str
    start_line: int
    end_line: int
    text: str
    score: float = 0.0
    signature: str = ""
    #: The line that answers best, where that is known already.
    line: int = 0


@dataclass(frozen=True)
class Scope:
    """What is searched: a view, and the files in it that the filters leave (None: all)."""

    view: View
    filters: SearchFilters
    file_ids: tuple[int, ...] | None = None

    @property
    def is_narrow(self) -> bool:
        return self.file_ids is not None and len(self.file_ids) <= NARROW_FILES


_VISIBLE_TREE = (
    "EXISTS (SELECT 1 FROM context_treeentry AS entry WHERE entry.file_id = file.id AND entry.since <= %(generation)s"
    " AND (entry.until IS NULL OR entry.until > %(generation)s))"
)
_VISIBLE_OVERLAY = (
    f"(({_VISIBLE_TREE} AND NOT EXISTS (SELECT 1 FROM context_overlayentry AS hidden"
    " WHERE hidden.overlay_id = %(overlay)s AND hidden.path = file.path))"
    " OR EXISTS (SELECT 1 FROM context_overlayentry AS own"
    " WHERE own.overlay_id = %(overlay)s AND own.file_id = file.id))"
)


def visible_condition(view: View) -> str:
    """SQL that is true of a ``file`` that the view has; with the parameters of ``View.parameters``."""
    return f"file.index_id = %(index)s AND {_VISIBLE_TREE if view.overlay_id is None else _VISIBLE_OVERLAY}"


def scope_make(*, view: View, filters: SearchFilters) -> Scope:
    """Raises InvalidInput for a glob that can't be read."""
    if not filters.paths and not filters.languages:
        return Scope(view, filters)
    try:
        matchers = [path_matcher(pattern) for pattern in filters.paths]
    except WorkspaceError as error:
        raise InvalidInput(str(error), next_step="write globs like `*.py` or `src/**/test_*.ts`") from error
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT file.id, file.path FROM context_codefile AS file WHERE {visible_condition(view)}"
            + (" AND file.language = ANY(%(languages)s)" if filters.languages else ""),
            {**view.parameters, "languages": list(filters.languages)},
        )
        found = cursor.fetchall()
    kept = [file_id for file_id, path in found if not matchers or any(matches(path) for matches in matchers)]
    return Scope(view, filters, tuple(kept))


def scope_conditions(scope: Scope) -> tuple[list[str], dict[str, Any]]:
    """SQL that is true of a ``chunk`` of a ``file`` in the scope, joined by AND, and its parameters."""
    conditions = [visible_condition(scope.view)]
    parameters: dict[str, Any] = dict(scope.view.parameters)
    if scope.file_ids is not None:
        conditions.append("file.id = ANY(%(files)s)")
        parameters["files"] = list(scope.file_ids)
    if scope.filters.kinds:
        conditions.append("chunk.kind = ANY(%(kinds)s)")
        parameters["kinds"] = list(scope.filters.kinds)
    return conditions, parameters


def scope_chunk_ids(scope: Scope) -> list[int]:
    """Every chunk of a narrow scope."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM context_codechunk WHERE file_id = ANY(%s)", [list(scope.file_ids or ())])
        return [row[0] for row in cursor.fetchall()]


_CHUNKS = """
SELECT chunk.id, file.id, file.path, file.blob, file.language, chunk.kind, chunk.qualified_name, chunk.start_line,
    chunk.end_line, chunk.text
FROM context_codechunk AS chunk JOIN context_codefile AS file ON file.id = chunk.file_id
WHERE chunk.id = ANY(%(ids)s) AND {condition}
"""


def chunks_pass(*, scope: Scope, ranked: Sequence[tuple[int, float]], limit: int) -> list[Candidate]:
    """The best of the ranked chunks that are visible and pass the filters, in their order."""
    found: list[Candidate] = []
    start = 0
    for end in (*_PIECES, len(ranked)):
        piece = ranked[start:end]
        if piece:
            found += _piece_pass(scope, piece, limit - len(found))
        start = max(start, end)
        if len(found) >= limit or start >= len(ranked):
            break
    return found


def _piece_pass(scope: Scope, piece: Sequence[tuple[int, float]], limit: int) -> list[Candidate]:
    conditions, parameters = scope_conditions(scope)
    parameters["ids"] = [chunk_id for chunk_id, _ in piece]
    # Texts of the best alone: those of the others are never looked at.
    with connection.cursor() as cursor:
        # The chunks first, whatever PostgreSQL knows of its tables: a project that was just read has no statistics yet,
        # and files looked up one by one with all of the ids took a second.
        cursor.execute(
            "WITH chunk AS MATERIALIZED (SELECT id, file_id, kind FROM context_codechunk WHERE id = ANY(%(ids)s))"
            " SELECT chunk.id FROM chunk JOIN context_codefile AS file ON file.id = chunk.file_id"
            f" WHERE {' AND '.join(conditions)}",
            parameters,
        )
        passing = {row[0] for row in cursor.fetchall()}
    best = [(chunk_id, score) for chunk_id, score in piece if chunk_id in passing][:limit]
    return chunks_load(ranked=best)


def chunks_load(*, ranked: Sequence[tuple[int, float]]) -> list[Candidate]:
    """The chunks with these ids and scores, in order; those that are gone by now are left out."""
    if not ranked:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_CHUNKS.format(condition="true"), {"ids": [chunk_id for chunk_id, _ in ranked]})
        rows = {row[0]: row for row in cursor.fetchall()}
    return [replace(Candidate(*rows[chunk_id]), score=float(score)) for chunk_id, score in ranked if chunk_id in rows]
