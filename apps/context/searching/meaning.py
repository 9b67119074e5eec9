"""Search by meaning: the nearest vectors, of chunks that are visible and pass the filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apps.context.searching.candidates import Candidate, Scope, chunks_pass, scope_chunk_ids
from apps.vector_store.spaces import vectors_lacking, vectors_search
from apps.vector_store.types import Payer, Scored, Slot, SpaceStatus

#: More than are wanted are asked for, since some belong to files that the tree doesn't have any more.
_SPARE = 3


@dataclass(frozen=True)
class MeaningFound:
    candidates: tuple[Candidate, ...]
    status: SpaceStatus
    #: The embedder knows no word of the query.
    is_unknown: bool = False


def meaning_search(*, scope: Scope, payer: Payer, query: str, limit: int, slot: Slot = "primary") -> MeaningFound:
    """The chunks that are nearest to the query, best first. Without vectors there are none, and the status says why."""
    ids = [str(chunk_id) for chunk_id in scope_chunk_ids(scope)] if scope.is_narrow else None
    asked = limit if ids is not None else limit * _SPARE
    found = vectors_search(payer=payer, query=query, limit=asked, ids=ids, slot=slot)
    candidates = _passing(scope, found.hits, limit)
    if ids is None and len(candidates) < limit and len(found.hits) == asked:
        # The filters leave little of what is near: look further.
        more = vectors_search(payer=payer, query=query, limit=asked * 10, slot=slot)
        candidates = _passing(scope, more.hits, limit)
    return MeaningFound(candidates, found.status, found.is_unknown)


def meaning_lacks(*, payer: Payer, candidates: Sequence[Candidate], slot: Slot) -> frozenset[int]:
    """Those of the chunks of which nothing can be known: they have no vector yet."""
    ids = [str(candidate.chunk_id) for candidate in candidates]
    return frozenset(int(lacking) for lacking in vectors_lacking(project_id=payer.project_id, ids=ids, slot=slot))


def _passing(scope: Scope, hits: Sequence[Scored], limit: int) -> tuple[Candidate, ...]:
    ranked = [(int(hit.id), hit.score) for hit in hits]
    return tuple(chunks_pass(scope=scope, ranked=ranked, limit=limit))
