"""Ranking and its figures: BM25 over split identifiers, fusion as search does it, and reciprocal ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from apps.context.terms import text_terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]
    Ints = NDArray[np.int64]

_K1, _B = 1.2, 0.75
#: As many of the best are on the scale; the rest count as nothing.
_TOP = 100


class Bm25:
    """All documents' terms, by term."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [text_terms(text) for text in texts]
        lengths = np.array([sum(each.values()) for each in counts], dtype=np.float32)
        self._norm = _K1 * (1 - _B + _B * lengths / max(float(lengths.mean()), 1.0))
        postings: dict[str, list[tuple[int, int]]] = {}
        for number, each in enumerate(counts):
            for term, times in each.items():
                postings.setdefault(term, []).append((number, times))
        self._postings = {term: np.array(found, dtype=np.int64) for term, found in postings.items()}

    def scores(self, query: str) -> Scores:
        size = len(self._norm)
        made = np.zeros(size, dtype=np.float32)
        for term in text_terms(query):
            found = self._postings.get(term)
            if found is not None:
                rows, times = found[:, 0], found[:, 1].astype(np.float32)
                weight = math.log(1 + (size - len(rows) + 0.5) / (len(rows) + 0.5))
                made[rows] += weight * times * (_K1 + 1) / (times + self._norm[rows])
        return made


@dataclass(frozen=True)
class Figures:
    mrr_at_10: float
    recall_at_1: float
    recall_at_10: float
    questions: int


def fused(text: Scores, vector: Scores, *, text_share: float) -> Scores:
    """Both on a scale from 0 to 1 over their best, and added."""
    made: Scores = text_share * scaled(text) + (1 - text_share) * scaled(vector)
    return made


def scaled(scores: Scores) -> Scores:
    top = min(_TOP, scores.shape[1])
    best = np.partition(scores, -top, axis=1)[:, -top:]
    low, high = best.min(1, keepdims=True), best.max(1, keepdims=True)
    made: Scores = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1)
    return made


def ranks(scores: Scores, answers: Sequence[Sequence[int]]) -> Ints:
    """The place of the best right document; of several with the same score it is the last."""
    made = []
    for row, right in zip(scores, answers, strict=True):
        best = row[list(right)].max()
        others = row >= best
        others[list(right)] = False
        made.append(1 + int(others.sum()))
    return np.array(made, dtype=np.int64)


def figures(places: Ints) -> Figures:
    if not len(places):
        return Figures(0.0, 0.0, 0.0, 0)
    return Figures(
        round(float(np.where(places <= 10, 1 / places, 0).mean()), 4),
        round(float((places == 1).mean()), 4),
        round(float((places <= 10).mean()), 4),
        len(places),
    )
