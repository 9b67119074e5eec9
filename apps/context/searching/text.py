"""Search by words: BM25 over the postings of the query's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db import connection

from apps.context.binary_reads import rows_binary
from apps.context.models import CodeIndex
from apps.context.postings import RECORD_BYTES, TermPostings, bm25_rank, records_unpack, term_scores
from apps.context.searching.candidates import Candidate, Scope, chunks_pass, scope_chunk_ids
from apps.context.terms import text_terms

#: Terms of a query that are looked up, and records that are read for them, the rarest terms first.
_TERMS = 64
_RECORDS = 600_000
#: Of a ranking.
_RANKED = 50_000
#: Said in nearly every question, and nothing about what is looked for.
_STOP_TEXT = """
    a an and are as at be been being but by can could do does for from had has have how i
    if in into is it its me my not of on or our please shall should so that the their them
    then there these they this those to was we were what when where which who why will with
    would you your
    """
_STOP_WORDS = frozenset(_STOP_TEXT.split())


@dataclass(frozen=True)
class TextFound:
    candidates: tuple[Candidate, ...]
    postings: tuple[TermPostings, ...]
    notes: tuple[str, ...] = ()


def query_terms(query: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """The query's terms and their weights, and what was left out, for people."""
    counted = text_terms(query)
    meant = {term: times for term, times in counted.items() if term not in _STOP_WORDS}
    # A query of such words alone is meant as it stands.
    weights = {term: float(times) ** 0.5 for term, times in (meant or counted).items()}
    if len(weights) <= 4 * _TERMS:
        return weights, ()
    chosen = sorted(weights, key=lambda term: (-weights[term], -len(term), term))[: 4 * _TERMS]
    note = f"The query has {len(weights)} different words; the {4 * _TERMS} that weigh most were looked up."
    return {term: weights[term] for term in chosen}, (note,)


def text_search(*, scope: Scope, query: str, limit: int) -> TextFound:
    """The chunks that say most of what the query says."""
    weights, notes = query_terms(query)
    documents, total = CodeIndex.objects.values_list("documents", "terms").get(id=scope.view.index_id)
    if not weights or not documents:
        return TextFound((), (), notes)
    postings = _postings_read(scope.view.index_id, weights)
    if scope.is_narrow:
        postings = _postings_within(postings, scope_chunk_ids(scope))
    ranking = bm25_rank(postings=postings, documents=documents, mean_length=total / max(documents, 1), limit=_RANKED)
    ranked = list(zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True))
    return TextFound(tuple(chunks_pass(scope=scope, ranked=ranked, limit=limit)), tuple(postings), notes)


def terms_explain(
    *, index_id: int, postings: Sequence[TermPostings], chunk_ids: Sequence[int]
) -> dict[int, dict[str, float]]:
    """What each term gave to each of the chunks."""
    documents, total = CodeIndex.objects.values_list("documents", "terms").get(id=index_id)
    wanted = np.array(sorted(chunk_ids), np.int64)
    shares: dict[int, dict[str, float]] = {chunk_id: {} for chunk_id in chunk_ids}
    for term in postings:
        ids, scores = term_scores(postings=term, documents=documents, mean_length=total / max(documents, 1))
        for place in np.flatnonzero(np.isin(ids, wanted)).tolist():
            shares[int(ids[place])][term.term] = round(float(scores[place]), 4)
    return shares


def _postings_read(index_id: int, weights: dict[str, float]) -> list[TermPostings]:
    """The records of the terms, the rarest first, as far as the bound goes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT term, sum(length(records)) FROM context_posting WHERE index_id = %s AND term = ANY(%s)"
            " GROUP BY term ORDER BY 2, 1",
            [index_id, list(weights)],
        )
        sizes = [(term, int(size) // RECORD_BYTES) for term, size in cursor.fetchall()]
    chosen: list[str] = []
    read = 0
    for term, size in sizes[:_TERMS]:
        if chosen and read + size > _RECORDS:
            break
        chosen.append(term)
        read += size
    pieces: dict[str, list[bytes]] = {}
    for term, records in rows_binary(
        "SELECT term, records FROM context_posting WHERE index_id = %s AND term = ANY(%s)", [index_id, chosen]
    ):
        pieces.setdefault(term, []).append(records)
    return [TermPostings(term, weights[term], b"".join(pieces[term])) for term in chosen if term in pieces]


def _postings_within(postings: Sequence[TermPostings], chunk_ids: Sequence[int]) -> list[TermPostings]:
    """Only what is of these chunks; how rare a term is in all of the project stays what it was."""
    wanted = np.array(chunk_ids, np.int64)
    kept = []
    for term in postings:
        ids, _, _ = records_unpack(term.records)
        packed = np.frombuffer(term.records, np.uint8).reshape(-1, RECORD_BYTES)[np.isin(ids, wanted)]
        kept.append(TermPostings(term.term, term.weight, packed.tobytes(), term.documents))
    return kept
