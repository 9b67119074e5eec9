"""The terms of all files of a view: loaded where they are known, worked out from the index's rows where not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.db import connection

from apps.context.locating.document import VERSION, FileTerms, file_terms
from apps.context.models import CodeChunk, CodeSymbol
from apps.context.models_locating import ContentTerms
from apps.context.searching.candidates import visible_condition
from apps.context.types import View

_BATCH = 200
#: Of one view: some 30 KiB each are held in memory.
FILES_MOST = 40_000
Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class TreeFile:
    id: int
    path: str
    blob: str
    language: str
    parser: int

    @property
    def key(self) -> Key:
        """What its terms depend on: the form is a part of the parser's number here, since both make them."""
        return self.blob, self.language, 100 * self.parser + VERSION


def tree_files(view: View) -> list[TreeFile]:
    """The files of a view that were read."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT file.id, file.path, file.blob, file.language, file.parser FROM context_codefile AS file"
            f" WHERE {visible_condition(view)} AND file.state IN ('parsed', 'lines')",
            view.parameters,
        )
        return [TreeFile(*row) for row in cursor.fetchall()]


def tree_fingerprint(view: View) -> str:
    """Which files a view has: a session's overlay, and a tree that is read for the first time, change in place."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(sum(file.id), 0), coalesce(max(file.id), 0) FROM context_codefile AS file"
            f" WHERE {visible_condition(view)}",
            view.parameters,
        )
        return ".".join(str(number) for number in cursor.fetchone())


@dataclass(frozen=True, slots=True)
class TreeTerms:
    """Terms of a view's files by path; for ``missing`` ones there was no time, for ``left_out`` no room."""

    files: dict[str, tuple[Key, FileTerms]]
    missing: int
    left_out: int


def terms_load(*, view: View, known: Mapping[Key, FileTerms], most: int) -> TreeTerms:
    """The terms of each file of the view. ``known`` are not looked up again; no more than ``most`` are worked out."""
    files = tree_files(view)
    left_out = max(0, len(files) - FILES_MOST)
    if left_out:
        # What lies near the top is what people wrote; heaps of files lie deep.
        files = sorted(files, key=lambda file: (file.path.count("/"), file.path))[:FILES_MOST]
    found: dict[Key, FileTerms] = {file.key: known[file.key] for file in files if file.key in known}
    missing = {file.key: file for file in files if file.key not in found}
    if missing:
        for key, terms in _stored(view.index_id, missing):
            found[key] = terms
            del missing[key]
    for key, terms in _made(view.index_id, list(missing.values())[:most]):
        found[key] = terms
    those = {file.path: (file.key, found[file.key]) for file in files if file.key in found}
    return TreeTerms(those, len(files) - len(those), left_out)


def _stored(index_id: int, missing: Mapping[Key, TreeFile]) -> Iterator[tuple[Key, FileTerms]]:
    rows = ContentTerms.objects.filter(index_id=index_id)
    if len(missing) <= _BATCH:
        rows = rows.filter(blob__in=[key[0] for key in missing])
    for blob, language, parser, data in list(rows.values_list("blob", "language", "parser", "data").iterator()):
        if (blob, language, parser) in missing:
            try:
                yield (blob, language, parser), FileTerms.from_bytes(bytes(data))
            except ValueError:
                continue


def _made(index_id: int, files: Sequence[TreeFile]) -> Iterator[tuple[Key, FileTerms]]:
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        ids = [file.id for file in batch]
        chunks: dict[int, list[CodeChunk]] = {}
        for chunk in CodeChunk.objects.filter(file_id__in=ids).order_by("file_id", "start_line", "id"):
            chunks.setdefault(chunk.file_id, []).append(chunk)
        symbols: dict[int, list[CodeSymbol]] = {}
        for symbol in CodeSymbol.objects.filter(file_id__in=ids).order_by("file_id", "start_line", "id"):
            symbols.setdefault(symbol.file_id, []).append(symbol)
        made = []
        for file in batch:
            terms = file_terms(language=file.language, chunks=chunks.get(file.id, ()), symbols=symbols.get(file.id, ()))
            made.append((file.key, terms))
        ContentTerms.objects.bulk_create(
            [
                ContentTerms(index_id=index_id, blob=key[0], language=key[1], parser=key[2], data=terms.to_bytes())
                for key, terms in made
            ],
            ignore_conflicts=True,
        )
        yield from made


def terms_prune() -> None:
    """Forget the terms of contents that no file has any more, and of indexes that are gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM context_contentterms AS terms WHERE NOT EXISTS (SELECT 1 FROM context_codefile AS file"
            " WHERE file.index_id = terms.index_id AND file.blob = terms.blob)"
        )
        cursor.execute(
            "DELETE FROM context_commithistory AS history WHERE NOT EXISTS"
            " (SELECT 1 FROM context_codeindex WHERE id = history.index_id)"
        )
