"""No text is embedded twice by the same embedder: vectors are kept by the hash of what was embedded.

Kept is what the embedder made, in numbers of two bytes, without the text. What was not asked for the longest goes when
there is too much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection

from integrations.embedders.known import BATCH_CHARACTERS, BATCH_TEXTS

from .types import Embedder, EmbedKind

if TYPE_CHECKING:
    from .types import Vectors

#: More of a text is not embedded; no chunk of code is as long.
MAX_TEXT = 24_000
#: Stands for a text with nothing in it, which some embedders refuse.
_BLANK = "."
#: What a row takes beside its vector.
_ROW_BYTES = 90
_READ = """
SELECT digest, vector FROM vector_store_cachedembedding WHERE embedder_id = %s AND digest = ANY(%s)
"""
_TOUCH = """
UPDATE vector_store_cachedembedding SET used_on = CURRENT_DATE
 WHERE (embedder_id, digest) IN (
    SELECT embedder_id, digest FROM vector_store_cachedembedding
     WHERE embedder_id = %s AND digest = ANY(%s) AND used_on < CURRENT_DATE
       FOR UPDATE SKIP LOCKED)
"""
_WRITE = """
INSERT INTO vector_store_cachedembedding (embedder_id, digest, vector, used_on)
SELECT %s, one.digest, one.vector, CURRENT_DATE FROM unnest(%s::bytea[], %s::bytea[]) AS one (digest, vector)
 ORDER BY one.digest
ON CONFLICT DO NOTHING
"""
_ROUGH_SIZE = "SELECT pg_total_relation_size('vector_store_cachedembedding')"
_SIZE = "SELECT count(*), coalesce(sum(octet_length(vector)), 0) FROM vector_store_cachedembedding"
_PRUNE = """
DELETE FROM vector_store_cachedembedding WHERE (embedder_id, digest) IN (
    SELECT embedder_id, digest FROM vector_store_cachedembedding ORDER BY used_on LIMIT %s
)
"""
_PRUNED_ROWS = 10_000


class CachedEmbedder:
    """An embedder that is asked for what isn't known yet; each batch is kept before the next one is asked for."""

    def __init__(self, inner: Embedder, *, embedder_id: int) -> None:
        self._inner = inner
        self._embedder_id = embedder_id

    @property
    def key(self) -> str:
        return self._inner.key

    @property
    def dimension(self) -> int:
        return self._inner.dimension

    def embed(self, texts: Sequence[str], *, kind: EmbedKind) -> Vectors:
        import numpy as np

        wanted = {text_digest(text, kind): text for text in map(text_clean, texts)}
        found = cache_read(self._embedder_id, wanted.keys(), self.dimension)
        for batch in _batches([(digest, text) for digest, text in wanted.items() if digest not in found]):
            vectors = self._inner.embed([text for _, text in batch], kind=kind)
            made = {digest: vector.astype("<f2").tobytes() for (digest, _), vector in zip(batch, vectors, strict=True)}
            cache_write(self._embedder_id, made)
            found |= made
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        rows = b"".join(found[text_digest(text_clean(text), kind)] for text in texts)
        vectors = np.frombuffer(rows, "<f2").reshape(len(texts), self.dimension).astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        result: Vectors = vectors / norms
        return result


def text_clean(text: str) -> str:
    """What is embedded of a text."""
    cut = text[:MAX_TEXT].replace("\x00", " ").encode(errors="replace").decode()
    return cut if cut.strip() else _BLANK


def text_digest(text: str, kind: EmbedKind) -> bytes:
    return hashlib.sha256(f"{kind}\0{text}".encode()).digest()


def cache_read(embedder_id: int, digests: Iterable[bytes], dimension: int) -> dict[bytes, bytes]:
    """Those that are known."""
    wanted = list(digests)
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_READ, [embedder_id, wanted])
        found = {bytes(digest): bytes(vector) for digest, vector in cursor.fetchall()}
        if found:
            cursor.execute(_TOUCH, [embedder_id, list(found)])
    return {digest: vector for digest, vector in found.items() if len(vector) == 2 * dimension}


def cache_write(embedder_id: int, vectors: Mapping[bytes, bytes]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, [embedder_id, list(vectors.keys()), list(vectors.values())])


def cache_prune() -> int:
    """Forget what was not asked for the longest, down to what the settings allow; says how many that were."""
    allowed = settings.ARCHON_EMBEDDING_CACHE_MB * 1024 * 1024
    pruned = 0
    with connection.cursor() as cursor:
        # What it takes on the disk is known without a look at each row, and is never less.
        cursor.execute(_ROUGH_SIZE)
        if cursor.fetchone()[0] <= allowed:
            return 0
        cursor.execute(_SIZE)
        rows, size = cursor.fetchone()
        size += rows * _ROW_BYTES
        while size > allowed and rows:
            surplus = min(_PRUNED_ROWS, rows, int((size - allowed) * rows / size) + 1)
            cursor.execute(_PRUNE, [surplus])
            pruned += cursor.rowcount
            size -= size * surplus // rows
            rows -= surplus
    return pruned


def _batches(texts: Sequence[tuple[bytes, str]]) -> Iterable[list[tuple[bytes, str]]]:
    batch: list[tuple[bytes, str]] = []
    size = 0
    for digest, text in texts:
        if batch and (len(batch) == BATCH_TEXTS or size + len(text) > BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append((digest, text))
        size += len(text)
    if batch:
        yield batch
