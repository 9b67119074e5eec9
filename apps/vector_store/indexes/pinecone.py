"""Vectors in Pinecone, over its own library.

Pinecone's searches see a write after some seconds, and say nothing of it. So what is written is kept here as well
(``PineconeVector``) until a search of Pinecone's finds it: a search looks there and here, and what is here counts. A
write that Pinecone didn't take stays and is sent again (:func:`PineconeIndex.flush`); a hit that nobody here knows of
any more (it was deleted, or its namespace dropped) is none.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.vector_store.errors import VectorIndexUnavailable
from apps.vector_store.models import PineconeVector, VectorNamespace, VectorSpace
from apps.vector_store.types import Scored
from integrations.pinecone_config import PineconeConfig, pinecone_open

from .namespaces import (
    dimension_check,
    ids_check,
    in_batches,
    limit_check,
    namespace_find,
    namespace_for,
    vectors_check,
)

if TYPE_CHECKING:
    from pinecone import Index, Pinecone

    from apps.vector_store.types import Vector

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

NAME = "pinecone"
#: The field of indexes that hold plain vectors, by Pinecone's own naming.
_FIELD = "_values"
_METRIC = "cosine"
#: Pinecone takes 2 MB and a thousand vectors in one request; a number takes some nine bytes.
_BATCH_BYTES, _BATCH_VECTORS, _NUMBER_BYTES = 1_500_000, 100, 11
_DELETED_IDS = 1_000
#: Ids that one search may be limited to; more are asked for in several.
_FILTER_IDS = 2_000
_TOP_K = 10_000
_CONFIRMED_IDS = 100
#: Of several machines of theirs, one that has seen a write is not all of them.
CONFIRM_AFTER = timedelta(seconds=10)
#: What Pinecone has not been seen to have for so long is sent again.
SEND_AGAIN_AFTER = timedelta(minutes=5)
#: Writes that Pinecone doesn't take, or doesn't show, are kept here up to so many; then whoever writes has to wait.
MAX_UNCONFIRMED = 20_000
_READY_SECONDS = 120


Method = Callable[Concatenate["PineconeIndex", P], T]


def _told(work: Method[P, T]) -> Method[P, T]:
    """What Pinecone's library raises, as what it means."""

    @wraps(work)
    def call(self: PineconeIndex, /, *args: P.args, **kwargs: P.kwargs) -> T:
        from pinecone.errors import PineconeError

        try:
            return work(self, *args, **kwargs)
        except PineconeError as error:
            if getattr(error, "status_code", None) == 404:
                # The index was deleted, and may be made anew at another host.
                self._indexes.clear()
            raise _failure(error, self.config) from error

    return call


class PineconeIndex:
    """A :class:`~apps.vector_store.types.VectorIndex`."""

    def __init__(self, config: PineconeConfig, *, confirm_after: timedelta = CONFIRM_AFTER) -> None:
        self.config = config
        self._confirm_after = confirm_after
        self._client: Pinecone | None = None
        self._indexes: dict[int, Index] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            indexes, self._indexes = list(self._indexes.values()), {}
            client, self._client = self._client, None
        for each in (*indexes, client):
            if each is not None:
                each.close()

    def upsert(self, *, namespace: str, vectors: Sequence[tuple[str, Vector]]) -> None:
        if not vectors:
            return
        kept = vectors_check(vectors)
        row = namespace_for(name=namespace, index=NAME, dimension=len(vectors[0][1]))
        for batch in in_batches(sorted(kept), _batch_size(row.dimension)):
            self._room_ensure(row)
            version = uuid.uuid4()
            now = timezone.now()
            written = [
                PineconeVector(
                    namespace=row,
                    vector_id=vector_id,
                    content=kept[vector_id].astype("<f2").tobytes(),
                    version=version,
                    written_at=now,
                )
                for vector_id in batch
            ]
            PineconeVector.objects.bulk_create(
                written,
                update_conflicts=True,
                unique_fields=["namespace", "vector_id"],
                update_fields=["content", "deleted", "version", "written_at", "sent_at"],
            )
            self._send_tolerantly(row, written)

    def delete(self, *, namespace: str, ids: Collection[str]) -> None:
        ids_check(ids)
        row = namespace_find(name=namespace, index=NAME)
        if row is None or not ids:
            return
        for batch in in_batches(sorted(ids), _DELETED_IDS):
            version = uuid.uuid4()
            with transaction.atomic():
                rows = PineconeVector.objects.select_for_update().order_by("vector_id")
                there = [each.id for each in rows.filter(namespace=row, vector_id__in=batch)]
                PineconeVector.objects.filter(id__in=there).update(
                    deleted=True, content=None, version=version, written_at=timezone.now(), sent_at=None
                )
            self._send_tolerantly(row, list(PineconeVector.objects.filter(id__in=there, version=version)))

    @_told
    def query(self, *, namespace: str, vector: Vector, limit: int, ids: Collection[str] | None = None) -> list[Scored]:
        limit_check(limit)
        row = namespace_find(name=namespace, index=NAME)
        if row is None or (ids is not None and not ids):
            return []
        dimension_check(row, len(vector))
        here = _unconfirmed(row)
        if ids is not None:
            here = here.filter(vector_id__in=list(ids))
        own = list(here.values_list("vector_id", "content", "deleted"))
        hits = self._query_there(row, vector, min(_TOP_K, limit + len(own)), ids)
        # What Pinecone still finds, and is here no more or in a later form, doesn't count.
        valid = set(
            PineconeVector.objects.filter(
                namespace=row, vector_id__in=list(hits), content__isnull=True, deleted=False
            ).values_list("vector_id", flat=True)
        )
        found = {vector_id: score for vector_id, score in hits.items() if vector_id in valid}
        found |= _scores(vector, {vector_id: content for vector_id, content, deleted in own if not deleted})
        ranked = sorted(found.items(), key=lambda hit: (-hit[1], hit[0]))
        return [Scored(vector_id, score) for vector_id, score in ranked[:limit]]

    def missing(self, *, namespace: str, ids: Collection[str]) -> set[str]:
        row = namespace_find(name=namespace, index=NAME)
        if row is None:
            return set(ids)
        there: set[str] = set()
        for batch in in_batches(ids, _FILTER_IDS):
            rows = PineconeVector.objects.filter(namespace=row, vector_id__in=batch, deleted=False)
            there.update(rows.values_list("vector_id", flat=True))
        return set(ids) - there

    def count(self, *, namespace: str) -> int:
        return PineconeVector.objects.filter(namespace__name=namespace, deleted=False).count()

    @_told
    def drop(self, *, namespace: str) -> None:
        from pinecone.errors import NotFoundError

        row = namespace_find(name=namespace, index=NAME)
        if row is None:
            return
        try:
            self._index(row.dimension).delete_namespace(name=row.name)
        except NotFoundError:  # nothing was ever written to it
            pass
        PineconeVector.objects.filter(namespace=row).delete()

    def flush(self, *, limit: int = 5_000) -> int:
        """Send what wasn't taken, and look which writes searches see by now; says how many are still to be seen."""
        now = timezone.now()
        lost = Q(sent_at__isnull=True) | Q(sent_at__lt=now - SEND_AGAIN_AFTER)
        waiting = PineconeVector.objects.filter(_UNCONFIRMED).values("namespace_id").distinct()
        for row in VectorNamespace.objects.filter(index=NAME, id__in=waiting):
            for batch in in_batches(list(_unconfirmed(row).filter(lost)[:limit]), _batch_size(row.dimension)):
                if not self._send_tolerantly(row, batch):
                    break
            self._confirm(row, limit)
        return PineconeVector.objects.filter(_UNCONFIRMED).count()

    def check(self) -> str:
        """What index there is, in words. Raises VectorIndexUnavailable where it can't be reached."""
        return self._describe()

    @_told
    def _describe(self) -> str:
        from pinecone.errors import NotFoundError

        try:
            found = self._opened().indexes.describe(self.config.index_name)
        except NotFoundError:
            return f"the index {self.config.index_name} is made when vectors come"
        return f"the index {found.name} is {found.status.state.lower()}"

    def _opened(self) -> Pinecone:
        with self._lock:
            if self._client is None:
                self._client = pinecone_open(self.config)
            return self._client

    def _index(self, dimension: int) -> Index:
        """The Pinecone index for vectors of that length, made where there is none."""
        with self._lock:
            known = self._indexes.get(dimension)
        if known is not None:
            return known
        client = self._opened()
        # An index holds vectors of one length; those of another model have an index beside it.
        name = self.config.index_name
        found = self._index_described(client, name)
        if found is not None and _dimension_of(found) != dimension:
            name = f"{name}-{dimension}"
            found = self._index_described(client, name)
        if found is None:
            found = self._index_make(client, name, dimension)
        if _dimension_of(found) != dimension or not found.host:
            raise VectorIndexUnavailable(
                f"the Pinecone index {name} holds no vectors of {dimension} numbers",
                next_step="Set PINECONE_INDEX_NAME to another name: the index is made when it is needed.",
            )
        opened = client.index(host=found.host)
        with self._lock:
            return self._indexes.setdefault(dimension, opened)

    def _index_described(self, client: Pinecone, name: str) -> Any:
        from pinecone.errors import NotFoundError

        try:
            return client.indexes.describe(name)
        except NotFoundError:
            return None

    def _index_make(self, client: Pinecone, name: str, dimension: int) -> Any:
        from pinecone.errors import ConflictError

        logger.info("making the Pinecone index %s for vectors of %s numbers", name, dimension)
        try:
            made = client.indexes.create(
                name=name,
                schema={"fields": {_FIELD: {"type": "dense_vector", "dimension": dimension, "metric": _METRIC}}},
                deployment={
                    "deployment_type": "managed",
                    "cloud": self.config.cloud,
                    "region": self.config.region,
                },
                timeout=_READY_SECONDS,
            )
            _forget_kept(dimension)
            return made
        except ConflictError:  # another process was as quick
            deadline = time.monotonic() + _READY_SECONDS
            while not (found := client.indexes.describe(name)).status.ready and time.monotonic() < deadline:
                time.sleep(1)
            return found

    def _send_tolerantly(self, row: VectorNamespace, rows: Sequence[PineconeVector]) -> bool:
        """Send; what isn't taken stays here, where searches find it, and is sent again later."""
        try:
            self._send(row, rows)
        except VectorIndexUnavailable as error:
            logger.warning("Pinecone takes no writes, they are sent again later: %s", error.message)
            return False
        return True

    @_told
    def _send(self, row: VectorNamespace, rows: Sequence[PineconeVector]) -> None:
        import numpy as np

        if not rows:
            return
        index = self._index(row.dimension)
        gone = [each.vector_id for each in rows if each.deleted]
        vectors = [
            {
                "id": each.vector_id,
                "values": np.frombuffer(each.content, "<f2").astype(np.float64).round(6).tolist(),
                # By which a search can be limited to ids, and a write be told from the one before it.
                "metadata": {"id": each.vector_id, "version": str(each.version)},
            }
            for each in rows
            if not each.deleted and each.content is not None
        ]
        if vectors:
            index.upsert(vectors=vectors, namespace=row.name)
        if gone:
            index.delete(ids=gone, namespace=row.name)
        now = timezone.now()
        for version in {each.version for each in rows}:
            sent = [each.vector_id for each in rows if each.version == version]
            PineconeVector.objects.filter(namespace=row, vector_id__in=sent, version=version).update(sent_at=now)

    def _confirm(self, row: VectorNamespace, limit: int) -> None:
        """Let go of what Pinecone's searches are seen to find, and of what they are seen to have lost."""
        ready = _unconfirmed(row).filter(sent_at__lte=timezone.now() - self._confirm_after)
        try:
            for batch in in_batches(list(ready.order_by("written_at")[:limit]), _CONFIRMED_IDS):
                self._confirm_batch(row, batch)
        except VectorIndexUnavailable as error:
            logger.warning("Pinecone cannot be asked what it has: %s", error.message)

    @_told
    def _confirm_batch(self, row: VectorNamespace, batch: Sequence[PineconeVector]) -> None:
        response = self._index(row.dimension).query(
            top_k=len(batch),
            vector=[1.0] + [0.0] * (row.dimension - 1),
            namespace=row.name,
            filter={"id": {"$in": [each.vector_id for each in batch]}},
            include_metadata=True,
        )
        seen = {match.id: str((match.metadata or {}).get("version", "")) for match in response.matches}
        shown = [each for each in batch if not each.deleted and seen.get(each.vector_id) == str(each.version)]
        lost = [each for each in batch if each.deleted and each.vector_id not in seen]
        for version in {each.version for each in (*shown, *lost)}:
            rows = PineconeVector.objects.filter(namespace=row, version=version)
            rows.filter(id__in=[each.id for each in shown if each.version == version]).update(content=None)
            rows.filter(id__in=[each.id for each in lost if each.version == version], deleted=True).delete()

    def _query_there(
        self, row: VectorNamespace, vector: Vector, top_k: int, ids: Collection[str] | None
    ) -> dict[str, float]:
        index = self._index(row.dimension)
        asked = [round(float(number), 6) for number in vector]
        filters: list[dict[str, Any] | None] = [None]
        if ids is not None:
            filters = [{"id": {"$in": batch}} for batch in in_batches(ids, _FILTER_IDS)]
        hits: dict[str, float] = {}
        for wanted in filters:
            response = index.query(top_k=top_k, vector=asked, namespace=row.name, filter=wanted)
            hits |= {match.id: float(match.score) for match in response.matches}
        return hits

    def _room_ensure(self, row: VectorNamespace) -> None:
        """Not more than can be kept here: a search looks at all of it."""
        if _unconfirmed(row).count() < MAX_UNCONFIRMED:
            return
        self._confirm(row, MAX_UNCONFIRMED)
        if _unconfirmed(row).count() >= MAX_UNCONFIRMED:
            raise VectorIndexUnavailable(
                f"Pinecone has not taken, or does not show, the last {MAX_UNCONFIRMED} vectors",
                next_step="Wait: it goes on by itself. If it stays so, look at Pinecone's status page and quotas.",
                retry_after=30,
            )


_UNCONFIRMED = Q(content__isnull=False) | Q(deleted=True)


def _unconfirmed(row: VectorNamespace) -> Any:
    return PineconeVector.objects.filter(_UNCONFIRMED, namespace=row).order_by(F("written_at"), F("vector_id"))


def _forget_kept(dimension: int) -> None:
    """A new index has nothing: what another one had (deleted since, or of another name) is to be filled in anew."""
    PineconeVector.objects.filter(
        namespace__index=NAME, namespace__dimension=dimension, content__isnull=True, deleted=False
    ).delete()
    PineconeVector.objects.filter(namespace__index=NAME, namespace__dimension=dimension).update(sent_at=None)
    VectorSpace.objects.filter(namespace__index=NAME, namespace__dimension=dimension).update(complete=False)


def _batch_size(dimension: int) -> int:
    return max(1, min(_BATCH_VECTORS, _BATCH_BYTES // (dimension * _NUMBER_BYTES)))


def _scores(vector: Vector, contents: dict[str, bytes]) -> dict[str, float]:
    import numpy as np

    if not contents:
        return {}
    rows = np.frombuffer(b"".join(contents.values()), "<f2").astype(np.float32)
    rows = rows.reshape(len(contents), len(vector))
    norms = np.linalg.norm(rows, axis=1) * float(np.linalg.norm(vector))
    scores = rows @ np.asarray(vector, np.float32) / np.where(norms > 0, norms, 1.0)
    return {vector_id: float(score) for vector_id, score in zip(contents, scores, strict=True)}


def _dimension_of(index: Any) -> int | None:
    """None: it is no index of plain vectors that are compared by their direction."""
    field = index.schema.fields.get(_FIELD)
    return field.dimension if field is not None and getattr(field, "metric", "") == _METRIC else None


def _failure(error: Any, config: PineconeConfig) -> VectorIndexUnavailable:
    status = getattr(error, "status_code", None)
    said = " ".join(str(error).replace(config.api_key, "***").split())[:300]
    if status in (401, 403):
        step = "Set PINECONE_API_KEY to a key that is valid, and may use the index."
        return VectorIndexUnavailable(f"Pinecone refuses the key: {said}", next_step=step)
    if status == 402 or (status == 429 and "quota" in said.lower()):
        return VectorIndexUnavailable(
            f"Pinecone's quota is used up: {said}", next_step="Raise it with Pinecone, or set ARCHON_VECTOR_INDEX."
        )
    if status is not None and 400 <= status < 500 and status not in (408, 409, 429):
        return VectorIndexUnavailable(f"Pinecone refuses the request: {said}", next_step="See Pinecone's own words.")
    return VectorIndexUnavailable(f"Pinecone cannot be used now: {said}", next_step="Try again later.")
