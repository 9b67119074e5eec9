"""How postings are packed, and what BM25 makes of them. No Django in here.

A record is seven bytes: the chunk's id (five, little-endian), how often it has the term, and how long it is, both in
one byte. A term's records in one segment are one value, so segments are merged by putting values one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Scores = NDArray[np.float32]

RECORD_BYTES = 7
#: As measured (docs/decisions/0019).
K1 = 2.0
B = 0.6
_LENGTH_BASE = 1.05
#: What the length byte stands for.
_LENGTHS = np.power(_LENGTH_BASE, np.arange(256)).astype(np.float32)
_LOG_BASE = math.log(_LENGTH_BASE)


def length_byte(length: int) -> int:
    return min(255, round(math.log(max(length, 1)) / _LOG_BASE))


def records_pack(*, chunk_ids: Ids, counts: NDArray[np.uint8], lengths: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One row of seven bytes each."""
    packed = np.empty((len(chunk_ids), RECORD_BYTES), np.uint8)
    packed[:, :5] = chunk_ids.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :5]
    packed[:, 5] = counts
    packed[:, 6] = lengths
    return packed


def records_unpack(records: bytes) -> tuple[Ids, NDArray[np.uint8], NDArray[np.uint8]]:
    """Ids, counts and length bytes."""
    packed = np.frombuffer(records, np.uint8).reshape(-1, RECORD_BYTES)
    wide = np.zeros((len(packed), 8), np.uint8)
    wide[:, :5] = packed[:, :5]
    return wide.view("<i8").reshape(-1), packed[:, 5], packed[:, 6]


@dataclass(frozen=True)
class TermPostings:
    term: str
    #: How often the query has it.
    weight: float
    records: bytes
    #: Chunks of the project that have it, where the records are a choice of them.
    known: int = 0

    @property
    def documents(self) -> int:
        return self.known or len(self.records) // RECORD_BYTES


@dataclass(frozen=True)
class Ranking:
    """Chunks and their scores, best first."""

    ids: Ids
    scores: Scores


def bm25_rank(*, postings: Sequence[TermPostings], documents: int, mean_length: float, limit: int) -> Ranking:
    """The best ``limit`` of all chunks that have any of the terms."""
    ids: list[Ids] = []
    scores: list[Scores] = []
    for term in postings:
        found, share = term_scores(postings=term, documents=documents, mean_length=mean_length)
        ids.append(found)
        scores.append(share)
    if not sum(map(len, ids)):
        return Ranking(np.empty(0, np.int64), np.empty(0, np.float32))
    every = np.concatenate(ids)
    low = int(every.min())
    span = int(every.max()) - low + 1
    flat = np.concatenate(scores)
    if span <= 20_000_000:
        # Ids of one project lie close together.
        summed = np.bincount(every - low, weights=flat, minlength=span)
        unique = np.flatnonzero(summed)
        totals = summed[unique].astype(np.float32)
        unique = unique + low
    else:
        unique, inverse = np.unique(every, return_inverse=True)
        totals = np.bincount(inverse, weights=flat).astype(np.float32)
    if len(unique) > limit:
        best = np.argpartition(-totals, limit)[:limit]
        unique, totals = unique[best], totals[best]
    # The older of two that are as good comes first, so that an answer is the same each time.
    order = np.lexsort((unique, -totals))
    return Ranking(unique[order], totals[order])


def term_scores(*, postings: TermPostings, documents: int, mean_length: float) -> tuple[Ids, Scores]:
    """What one term gives to each chunk that has it."""
    ids, counts, lengths = records_unpack(postings.records)
    having = min(postings.documents, documents)
    rarity = math.log(1 + (documents - having + 0.5) / (having + 0.5))
    norms = K1 * (1 - B + B * _LENGTHS / max(mean_length, 1.0))
    frequency = counts.astype(np.float32)
    share = frequency * np.float32(K1 + 1) / (frequency + norms[lengths])
    return ids, (share * np.float32(max(rarity, 0.01) * postings.weight)).astype(np.float32)
