"""What a project has twice: runs of equal lines in its code, as the index has it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from apps.context.mapping.duplication import Duplication, duplicates_find
from apps.context.searching.candidates import visible_condition
from apps.context.searching.search import index_view
from apps.context.types import IndexState
from apps.projects.models import Project

_CHARACTERS = 60_000_000


@dataclass(frozen=True)
class DuplicatesResult:
    duplication: Duplication
    index: IndexState


def duplicates_make(*, project: Project, limit: int) -> DuplicatesResult:
    """The longest first, and for each file the share of its lines that stand elsewhere too."""
    view, state = index_view(project=project)
    texts: dict[str, list[str]] = {}
    left = _CHARACTERS
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT file.path, chunk.start_line, chunk.text FROM context_codechunk AS chunk"
            f" JOIN context_codefile AS file ON file.id = chunk.file_id WHERE {visible_condition(view)}"
            " AND chunk.kind IN ('function', 'method', 'class', 'module') ORDER BY file.path, chunk.start_line",
            view.parameters,
        )
        while left > 0 and (rows := cursor.fetchmany(2_000)):
            for path, start, text in rows:
                lines = texts.setdefault(path, [])
                # Lines between chunks are blank.
                lines += [""] * (start - 1 - len(lines))
                lines += text.split("\n")
                left -= len(text)
    found = duplicates_find(texts={path: "\n".join(lines) for path, lines in texts.items()}, limit=limit)
    if left <= 0:
        found = Duplication(found.duplicates, found.shares, truncated=True)
    return DuplicatesResult(found, state)
