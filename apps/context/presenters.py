"""From rows and results to what the API shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db import connection

from apps.context import selectors
from apps.context.dependencies import ImportResolver
from apps.context.models import CodeFile, CodeIndex, FileSummary
from apps.context.overview import imports_resolved
from apps.context.searching.candidates import visible_condition
from apps.context.searching.projects import ProjectsFound
from apps.context.searching.search import index_state
from apps.context.summaries import summary_reason, summary_state
from apps.context.types import View
from apps.context.vectors import vectors_state
from apps.projects.models import Project

#: Shorter functions are alike by chance.
_DUPLICATE_CHARACTERS = 200
_DUPLICATES = 50


def state_present(project: Project) -> dict[str, Any]:
    """How the index stands, its vectors included."""
    return {**asdict(index_state(project=project)), "vectors": vectors_state(project.id)}


def search_present(found: ProjectsFound) -> dict[str, Any]:
    return {
        "hits": [{**asdict(each.hit), "project": each.project_id} for each in found.hits],
        "indexes": [{**asdict(state), "project": project_id} for project_id, state in found.indexes],
        "notes": list(found.notes),
        "stale": found.stale,
        "truncated": found.truncated,
    }


def summary_present(summary: FileSummary) -> dict[str, Any]:
    shown = {name: getattr(summary, name) for name in ("model", "text", "partial", "asked_at", "made_at")}
    return {**shown, "state": summary_state(summary), "reason": summary_reason(summary)}


def file_present(file: CodeFile) -> dict[str, Any]:
    """A file with all that is known of it."""
    view = selectors.file_view(file)
    analysis = selectors.analysis_read(file.analysis)
    project_id = CodeIndex.objects.values_list("project_id", flat=True).get(id=file.index_id)
    resolver = ImportResolver(_paths(view))
    shown = {name: getattr(file, name) for name in ("id", "path", "language", "size", "lines", "complexity", "state")}
    return {
        **shown,
        "reason": file.reason,
        "blob": file.blob,
        "symbol_count": file.symbol_count,
        "chunk_count": file.chunk_count,
        "indexed_at": file.indexed_at,
        "project": project_id,
        "added": selectors.added_get(file) is not None,
        "summary": summary_present(summary) if (summary := selectors.summary_get(file)) is not None else None,
        "definitions": selectors.file_symbols(file),
        "imports": [
            {
                "module": module,
                "names": list(names),
                "line": line,
                "path": next(iter(resolver.resolve(importer=file.path, module=module, names=names)), ""),
            }
            for module, names, line in analysis.imports
        ],
        "dependents": sorted(
            path for path, targets in imports_resolved(view).items() if file.path in targets and path != file.path
        ),
        "todos": [{"line": line, "text": text} for line, text in analysis.todos],
        "duplicates": _duplicates(view, file),
    }


def _paths(view: View) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT file.path FROM context_codefile AS file"
            f" WHERE {visible_condition(view)} AND file.state <> 'skipped'",
            view.parameters,
        )
        return [row[0] for row in cursor.fetchall()]


def _duplicates(view: View, file: CodeFile) -> list[dict[str, Any]]:
    """Functions in other places whose text is that of one of this file's, but for spacing."""
    plain = "regexp_replace(%s, '\\s+', '', 'g')"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH own AS (
                SELECT id, start_line, end_line, {plain % 'text'} AS body FROM context_codechunk
                WHERE file_id = %(file)s AND kind IN ('function', 'method') AND length(text) >= %(least)s
            )
            SELECT file.path, other.start_line, other.end_line, other.qualified_name, own.start_line, own.end_line
            FROM context_codechunk AS other JOIN context_codefile AS file ON file.id = other.file_id
            JOIN own ON {plain % 'other.text'} = own.body AND other.id <> own.id
            WHERE other.kind IN ('function', 'method') AND length(other.text) >= %(least)s
            AND {visible_condition(view)}
            ORDER BY 5, 1, 2 LIMIT {_DUPLICATES}
            """,
            {**view.parameters, "file": file.id, "least": _DUPLICATE_CHARACTERS},
        )
        names = ("path", "start_line", "end_line", "symbol", "own_start_line", "own_end_line")
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
