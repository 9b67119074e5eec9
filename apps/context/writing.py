"""Writes to an index: in bulk, by the holder of its lease alone.

Each function is one transaction that locks the index's row under its fence first, so that what a worker that lost the
lease still had in hand is not written, and no two write at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection, transaction
from django.utils import timezone

from apps.context import copy_rows as rows
from apps.context.parser_pool import ParsedBatch
from apps.context.parsing_process import CHUNK_COLUMNS, FILE_COLUMNS, SYMBOL_COLUMNS, file_row
from apps.context.postings import RECORD_BYTES, records_unpack
from apps.context.types import Lease, LeaseLost
from apps.context.walking import TreeFile

#: Segments of a size are merged when there are so many of them; a size is a power of eight of chunks.
_SEGMENTS_OF_A_SIZE = 8
_SIZE_BASE = 8


class PostingsBuffer:
    """Postings that were parsed and not written yet."""

    def __init__(self) -> None:
        self._records: dict[str, list[bytes]] = {}
        self.chunks = 0
        self.length = 0

    def add(self, batch: ParsedBatch) -> None:
        counts = np.frombuffer(batch.term_counts, "<u4").astype(np.int64) * RECORD_BYTES
        ends = np.cumsum(counts).tolist()
        records = batch.records
        start = 0
        for term, end in zip(batch.terms, ends, strict=True):
            self._records.setdefault(term, []).append(records[start:end])
            start = end
        self.chunks += batch.chunk_count
        self.length += batch.total_length

    def restore(self, records: dict[str, list[bytes]], *, chunks: int, length: int) -> None:
        """Put back what was written once."""
        self._records, self.chunks, self.length = records, chunks, length

    def take(self) -> tuple[dict[str, list[bytes]], int, int]:
        """Terms with their records, and how many chunks, of how many terms."""
        taken = (self._records, self.chunks, self.length)
        self._records, self.chunks, self.length = {}, 0, 0
        return taken


def lease_hold(cursor: Any, lease: Lease) -> None:
    """Hold the index for as long again. Raises LeaseLost where it is somebody else's."""
    cursor.execute(
        "UPDATE context_codeindex SET lease_until = clock_timestamp() + make_interval(secs => %s)"
        " WHERE id = %s AND fence = %s",
        [lease.seconds, lease.index_id, lease.fence],
    )
    if not cursor.rowcount:
        raise LeaseLost


@contextmanager
def index_locked(lease: Lease) -> Iterator[Any]:
    """A transaction in which the index is ours; a cursor. What it wrote last may be lost in a crash of the database:
    then all of it is, in the order in which it came, and the job does it again."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
        lease_hold(cursor, lease)
        yield cursor


def ids_take(count: int) -> int:
    """The first of so many ids for files or chunks."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT context_ids_take(%s)", [count])
        return int(cursor.fetchone()[0])


def batch_write(cursor: Any, *, batches: Sequence[ParsedBatch], buffer: PostingsBuffer) -> None:
    """Write files, chunks and symbols; their postings go to the buffer."""
    _copy(cursor, "context_codefile", FILE_COLUMNS, (batch.files for batch in batches))
    _copy(cursor, "context_codechunk", CHUNK_COLUMNS, (batch.chunks for batch in batches))
    _copy(cursor, "context_codesymbol", SYMBOL_COLUMNS, (batch.symbols for batch in batches))
    for batch in batches:
        buffer.add(batch)


def files_skipped_write(
    cursor: Any,
    *,
    lease: Lease,
    files: Sequence[tuple[int, TreeFile]],
    now: datetime,
    parser: int | None = None,
) -> None:
    """Rows of files that are not read, or that turned out to be binary (``parser`` is who found that)."""
    _copy(
        cursor,
        "context_codefile",
        FILE_COLUMNS,
        (
            file_row(
                file_id=file_id,
                index_id=lease.index_id,
                path=file.path,
                blob=file.blob,
                state="skipped",
                reason=file.skip,
                size=file.size,
                now=now,
                parser=file.parser if parser is None else parser,
            )
            for file_id, file in files
        ),
    )


def postings_flush(cursor: Any, *, lease: Lease, buffer: PostingsBuffer) -> None:
    """Write what the buffer has as a segment: from now on text search finds these chunks."""
    records, chunks, length = buffer.take()
    if not records:
        return
    cursor.execute(
        "INSERT INTO context_segment (index_id, documents) VALUES (%s, %s) RETURNING id", [lease.index_id, chunks]
    )
    segment = int(cursor.fetchone()[0])
    index_field, segment_field = rows.big_field(lease.index_id), rows.big_field(segment)
    _copy(
        cursor,
        "context_posting",
        "index_id, term, segment_id, records",
        (
            rows.row(index_field, rows.text_field(term), segment_field, rows.bytes_field(b"".join(pieces)))
            # In the order of the table's index.
            for term, pieces in sorted(records.items())
        ),
    )
    cursor.execute(
        "UPDATE context_codeindex SET documents = documents + %s, terms = terms + %s WHERE id = %s",
        [chunks, length, lease.index_id],
    )


def entries_add(cursor: Any, *, lease: Lease, file_ids: Iterable[int], since: int) -> None:
    """Have the files in the tree from this generation on."""
    index, generation = rows.big_field(lease.index_id), rows.big_field(since)
    _copy(
        cursor,
        "context_treeentry",
        "index_id, file_id, since",
        (rows.row(index, rows.big_field(file_id), generation) for file_id in file_ids),
    )


def entries_end(cursor: Any, *, entry_ids: Collection[int], until: int) -> None:
    """Have these entries in the tree up to, and without, this generation."""
    if entry_ids:
        cursor.execute(
            "UPDATE context_treeentry SET until = %s WHERE id = ANY(%s) AND until IS NULL", [until, list(entry_ids)]
        )


def entries_prune(cursor: Any, *, lease: Lease) -> None:
    """Forget the generations that nobody reads any more; the last one may be read by a search that has begun."""
    cursor.execute(
        """
        DELETE FROM context_treeentry WHERE index_id = %(index)s AND until <= LEAST(
            (SELECT generation - 1 FROM context_codeindex WHERE id = %(index)s),
            (SELECT min(generation) FROM context_overlay WHERE index_id = %(index)s)
        )
        """,
        {"index": lease.index_id},
    )


def statistics_take() -> None:
    """Have PostgreSQL look at its tables anew: by itself it does a minute or more after much was written.

    Until then it plans joins by its idea of empty tables, which takes seconds for some searches.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "ANALYZE context_codefile, context_treeentry, context_codechunk, context_codesymbol, context_posting"
        )


def segments_merge(*, lease: Lease) -> None:
    """Put small segments together, where there are many: a search reads a value for each term and segment."""
    for _ in range(10):
        with index_locked(lease) as cursor:
            cursor.execute("SELECT id, documents FROM context_segment WHERE index_id = %s", [lease.index_id])
            by_size: dict[int, list[tuple[int, int]]] = {}
            for segment, documents in cursor.fetchall():
                size, bound = 0, _SIZE_BASE
                while documents >= bound:
                    size, bound = size + 1, bound * _SIZE_BASE
                by_size.setdefault(size, []).append((segment, documents))
            chosen = next((found for _, found in sorted(by_size.items()) if len(found) >= _SEGMENTS_OF_A_SIZE), None)
            if chosen is None:
                return
            merged = [segment for segment, _ in chosen]
            cursor.execute(
                "INSERT INTO context_segment (index_id, documents) VALUES (%s, %s) RETURNING id",
                [lease.index_id, sum(documents for _, documents in chosen)],
            )
            target = int(cursor.fetchone()[0])
            cursor.execute(
                """
                WITH gone AS (
                    DELETE FROM context_posting WHERE index_id = %s AND segment_id = ANY(%s)
                    RETURNING term, segment_id, records
                )
                INSERT INTO context_posting (index_id, term, segment_id, records)
                SELECT %s, term, %s, string_agg(records, ''::bytea ORDER BY segment_id) FROM gone GROUP BY term
                """,
                [lease.index_id, merged, lease.index_id, target],
            )
            cursor.execute("DELETE FROM context_segment WHERE id = ANY(%s)", [merged])


def files_unused_delete(*, lease: Lease, before: datetime, limit: int = 2_000) -> list[int]:
    """Delete files that no tree and no overlay has, and that were read before then; the ids of their chunks."""
    with index_locked(lease) as cursor:
        cursor.execute(
            """
            SELECT id FROM context_codefile AS file WHERE index_id = %s AND indexed_at < %s
            AND NOT EXISTS (SELECT 1 FROM context_treeentry WHERE file_id = file.id)
            AND NOT EXISTS (SELECT 1 FROM context_overlayentry WHERE file_id = file.id) LIMIT %s
            """,
            [lease.index_id, before, limit],
        )
        unused = [row[0] for row in cursor.fetchall()]
        if not unused:
            return []
        cursor.execute("DELETE FROM context_codesymbol WHERE file_id = ANY(%s)", [unused])
        cursor.execute("DELETE FROM context_codechunk WHERE file_id = ANY(%s) RETURNING id", [unused])
        chunks = [row[0] for row in cursor.fetchall()]
        cursor.execute("DELETE FROM context_codefile WHERE id = ANY(%s)", [unused])
        cursor.execute(
            "UPDATE context_codeindex SET dead_documents = dead_documents + %s WHERE id = %s",
            [len(chunks), lease.index_id],
        )
        return chunks


def postings_compact(*, lease: Lease) -> None:
    """Write the postings anew, without chunks that are gone."""
    with index_locked(lease) as cursor:
        cursor.execute(
            "SELECT chunk.id FROM context_codechunk AS chunk JOIN context_codefile AS file ON file.id = chunk.file_id"
            " WHERE file.index_id = %s",
            [lease.index_id],
        )
        alive = np.sort(np.fromiter((row[0] for row in cursor.fetchall()), np.int64))
        cursor.execute("SELECT term, segment_id, records FROM context_posting WHERE index_id = %s", [lease.index_id])
        kept: dict[str, list[bytes]] = {}
        length = 0
        while found := cursor.fetchmany(5_000):
            for term, _, records in found:
                raw = bytes(records)
                ids, counts, _ = records_unpack(raw)
                places = np.searchsorted(alive, ids)
                places[places == len(alive)] = 0
                mask = alive[places] == ids if len(alive) else np.zeros(len(ids), bool)
                if mask.any():
                    packed = np.frombuffer(raw, np.uint8).reshape(-1, RECORD_BYTES)[mask]
                    kept.setdefault(term, []).append(packed.tobytes())
                    length += int(counts[mask].astype(np.int64).sum())
        cursor.execute("DELETE FROM context_posting WHERE index_id = %s", [lease.index_id])
        cursor.execute("DELETE FROM context_segment WHERE index_id = %s", [lease.index_id])
        cursor.execute(
            "UPDATE context_codeindex SET documents = 0, terms = 0, dead_documents = 0 WHERE id = %s", [lease.index_id]
        )
        buffer = PostingsBuffer()
        buffer.restore(kept, chunks=len(alive), length=length)
        postings_flush(cursor, lease=lease, buffer=buffer)


def index_clear(*, lease: Lease, job_id: object) -> None:
    """Forget everything that was read, and that the job wants it forgotten."""
    with index_locked(lease) as cursor:
        cursor.execute("UPDATE context_indexjob SET rebuild = false WHERE id = %s", [job_id])
        for table in ("codesymbol", "codechunk"):
            cursor.execute(
                f"DELETE FROM context_{table} WHERE file_id IN (SELECT id FROM context_codefile WHERE index_id = %s)",
                [lease.index_id],
            )
        for table in ("posting", "segment", "treeentry", "codefile"):
            cursor.execute(f"DELETE FROM context_{table} WHERE index_id = %s", [lease.index_id])
        cursor.execute(
            "DELETE FROM context_overlayentry WHERE overlay_id IN (SELECT id FROM context_overlay WHERE index_id = %s)",
            [lease.index_id],
        )
        cursor.execute("DELETE FROM context_overlay WHERE index_id = %s", [lease.index_id])
        cursor.execute(
            "UPDATE context_codeindex SET generation = 0, commit = '', complete = false,"
            " configuration_key = '', documents = 0, terms = 0, dead_documents = 0 WHERE id = %s",
            [lease.index_id],
        )


def overlay_write(
    cursor: Any,
    *,
    lease: Lease,
    key: object,
    generation: int,
    commit: str,
    revision: str,
    files: Mapping[str, int | None],
) -> None:
    """Have what is worked on under this key be the generation's files, but for these (None: gone)."""
    cursor.execute(
        """
        INSERT INTO context_overlay (index_id, session_id, generation, commit, revision, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT (session_id) DO UPDATE SET generation = excluded.generation, commit = excluded.commit,
            revision = excluded.revision, updated_at = excluded.updated_at
        RETURNING id
        """,
        [lease.index_id, key, generation, commit, revision, timezone.now()],
    )
    overlay = int(cursor.fetchone()[0])
    cursor.execute("DELETE FROM context_overlayentry WHERE overlay_id = %s", [overlay])
    field = rows.big_field(overlay)
    _copy(
        cursor,
        "context_overlayentry",
        "overlay_id, path, file_id",
        (rows.row(field, rows.text_field(path), rows.big_field(file_id)) for path, file_id in files.items()),
    )


def _copy(cursor: Any, table: str, columns: str, pieces: Iterable[bytes]) -> None:
    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(rows.HEADER)
        for piece in pieces:
            if piece:
                copy.write(piece)
        copy.write(rows.TRAILER)
