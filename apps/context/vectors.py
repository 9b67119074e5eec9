"""Filling a project's vectors behind its text index: which chunks have one, and what is embedded of them.

It has a lease of its own, apart from that of the index: embedding takes long, and reading files must not wait for it.
What was broken off goes on where it was, since nothing that has a vector is embedded again.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.context.models import CodeIndex
from apps.context.parsing.types import chunk_header
from apps.core.database import DATABASE_AWAY
from apps.vector_store.embedders import is_instant
from apps.vector_store.spaces import RETRY_AFTER, projects_due, projects_lacking, space_fill, spaces_plan, status_get
from apps.vector_store.types import Payer

logger = logging.getLogger(__name__)

#: Chunks that are looked at together: a change of one file looks at all of them.
_BATCH = 4_096
_LEASE = timedelta(seconds=120)
#: Whether to break off.
StopCheck = Callable[[], bool]


class ChunkTexts:
    """The texts of every chunk that a tree or an overlay of the index has."""

    def __init__(self, index_id: int) -> None:
        self._index_id = index_id

    def ids(self) -> Iterator[Sequence[str]]:
        last = 0
        while True:
            with connection.cursor() as cursor:
                cursor.execute(
                    """
                    SELECT chunk.id FROM context_codechunk AS chunk
                    JOIN context_codefile AS file ON file.id = chunk.file_id
                    WHERE file.index_id = %s AND chunk.id > %s AND (
                        EXISTS (SELECT 1 FROM context_treeentry AS entry WHERE entry.file_id = file.id
                            AND entry.until IS NULL)
                        OR EXISTS (SELECT 1 FROM context_overlayentry AS own WHERE own.file_id = file.id)
                    ) ORDER BY chunk.id LIMIT %s
                    """,
                    [self._index_id, last, _BATCH],
                )
                found = [row[0] for row in cursor.fetchall()]
            if not found:
                return
            last = found[-1]
            yield [str(chunk_id) for chunk_id in found]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT chunk.id, file.path, chunk.qualified_name, chunk.text FROM context_codechunk AS chunk"
                " JOIN context_codefile AS file ON file.id = chunk.file_id WHERE chunk.id = ANY(%s)",
                [[int(chunk_id) for chunk_id in ids]],
            )
            return {
                str(chunk_id): f"{chunk_header(path=path, qualified_name=name)}\n{text}"
                for chunk_id, path, name, text in cursor.fetchall()
            }


class _Held:
    """Holds the lease from a thread of its own: one call of a provider may take longer than a lease."""

    def __init__(self, index_id: int, fence: int) -> None:
        self._mine = CodeIndex.objects.filter(id=index_id, vectors_fence=fence)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="vectors-lease", daemon=True)
        #: Somebody else fills them now.
        self.is_lost = False

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _hold(self) -> None:
        while not self._ended.wait(_LEASE.total_seconds() / 8):
            try:
                self.is_lost = not self._mine.update(vectors_lease_until=timezone.now() + _LEASE)
            except DATABASE_AWAY as error:
                logger.warning("the lease of vectors was not renewed: %s", error)
            finally:
                connection.close()
            if self.is_lost:
                return


def vectors_want(project_id: uuid.UUID) -> None:
    """Have the project's vectors filled, by whoever is free."""
    CodeIndex.objects.filter(project_id=project_id).update(vectors_wanted=F("vectors_wanted") + 1)


def vectors_state(project_id: uuid.UUID) -> str:
    """How far the project's vectors are: not ``ready`` while there are chunks that nobody has looked at yet."""
    state = status_get(project_id, "primary", count=False).state
    behind = CodeIndex.objects.filter(project_id=project_id, vectors_wanted__gt=F("vectors_filled"))
    return "filling" if state == "ready" and behind.exists() else state


def vectors_due() -> list[uuid.UUID]:
    """Projects whose vectors are to be filled, and that nobody fills."""
    free = Q(vectors_lease_until__isnull=True) | Q(vectors_lease_until__lt=timezone.now())
    idle = CodeIndex.objects.filter(free, complete=True, vectors_wanted=F("vectors_filled"))
    # What was switched on, or got its key, after the project was indexed.
    lacking = projects_lacking(list(idle.values_list("project_id", flat=True)))
    idle.filter(project_id__in=[*projects_due(), *lacking]).update(vectors_wanted=F("vectors_wanted") + 1)
    wanted = CodeIndex.objects.filter(free, generation__gt=0, vectors_wanted__gt=F("vectors_filled"))
    return list(wanted.values_list("project_id", flat=True)[:100])


def vectors_fill(*, project_id: uuid.UUID, stop: StopCheck | None = None) -> str:
    """Fill them, if nobody else does; the state that they are in afterwards."""
    now = timezone.now()
    free = Q(vectors_lease_until__isnull=True) | Q(vectors_lease_until__lt=now)
    with transaction.atomic():
        index = CodeIndex.objects.select_for_update().filter(free, project_id=project_id).first()
        if index is None:
            return status_get(project_id, "primary").state
        index.vectors_lease_until = now + _LEASE
        index.vectors_fence += 1
        index.save(update_fields=["vectors_lease_until", "vectors_fence"])
    mine = CodeIndex.objects.filter(id=index.id, vectors_fence=index.vectors_fence)
    held = _Held(index.id, index.vectors_fence)
    rest_until: datetime | None = None
    held.start()
    try:
        wanted: int | None = index.vectors_wanted
        while wanted is not None:
            filled = _spaces_fill(index.id, project_id, wanted, lambda: held.is_lost or (stop is not None and stop()))
            if filled.is_whole:
                mine.update(vectors_filled=wanted)
            wanted = filled.wanted_anew
        if projects_lacking([project_id]):
            # It can't have a space yet (no key, nobody there to ask): not at once again.
            rest_until = timezone.now() + RETRY_AFTER
    finally:
        held.end()
        mine.update(vectors_lease_until=rest_until)
    return status_get(project_id, "primary").state


@dataclass(frozen=True)
class _Round:
    """How far one look at all spaces came."""

    is_whole: bool
    #: The count of what was wanted, where something was since: the first vectors of that come before the rest.
    wanted_anew: int | None = None


def _spaces_fill(index_id: int, project_id: uuid.UUID, wanted: int, stop: StopCheck) -> _Round:
    payer = Payer(project_id=project_id)
    wanted_anew: int | None = None

    def progress(done: int, of: int) -> bool:
        return not stop()

    def progress_slow(done: int, of: int) -> bool:
        nonlocal wanted_anew
        behind = CodeIndex.objects.filter(id=index_id, vectors_wanted__gt=wanted)
        wanted_anew = behind.values_list("vectors_wanted", flat=True).first()
        return wanted_anew is None and not stop()

    is_whole = True
    for number, space in enumerate(spaces_plan(payer)):
        if number and stop():
            return _Round(is_whole=False)
        filled = space_fill(
            space=space,
            source=ChunkTexts(index_id),
            payer=payer,
            progress=progress if is_instant(space.embedder) else progress_slow,
        )
        # What failed has a time at which it is tried again; what was broken off goes on with the next sweep.
        is_whole = is_whole and (filled.complete or filled.status.state == "stopped")
        if wanted_anew is not None:
            return _Round(is_whole=False, wanted_anew=None if stop() else wanted_anew)
    return _Round(is_whole)
