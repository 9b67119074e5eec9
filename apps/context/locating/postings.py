"""Which documents hold which terms, as arrays: built once, asked often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


class Postings:
    """For each term the documents that hold it, each with a weight, in order of the terms."""

    def __init__(self, terms: Numbers, documents: Numbers, weights: Floats, *, terms_count: int, size: int) -> None:
        """``documents`` are numbers below ``size``. What stands there twice is added up."""
        keys = terms * max(size, 1) + documents
        order = np.argsort(keys, kind="stable")
        keys, weights = keys[order], weights[order]
        first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.zeros(0, np.int64)
        self.weights: Floats = (np.add.reduceat(weights, first) if len(first) else weights).astype(np.float32)
        kept = keys[first]
        self.documents = (kept % max(size, 1)).astype(np.int32)
        self.starts = np.searchsorted(kept // max(size, 1), np.arange(terms_count + 1))
        self.size = size
        self.frequency = np.diff(self.starts)

    def idf(self, term: int) -> float:
        count = float(self.frequency[term])
        return float(np.log1p((self.size - count + 0.5) / (count + 0.5)))

    def scores(self, query: Mapping[int, float], *, saturation: float | None) -> Floats:
        """Σ weight · idf · w / (saturation + w) over the query's terms; None: the weights are saturated already."""
        documents, gains = self._gains(query, saturation)
        if not documents:
            return np.zeros(self.size, np.float32)
        return np.bincount(np.concatenate(documents), np.concatenate(gains), self.size).astype(np.float32)

    def _gains(
        self, query: Mapping[int, float], saturation: float | None
    ) -> tuple[list[npt.NDArray[np.int32]], list[Floats]]:
        documents, gains = [], []
        for term, weight in query.items():
            start, end = self.starts[term], self.starts[term + 1]
            if start == end:
                continue
            held = self.weights[start:end]
            if saturation is not None:
                held = held / (saturation + held)
            documents.append(self.documents[start:end])
            gains.append(held * np.float32(weight * self.idf(term)))
        return documents, gains

    def gain(self, document: int, query: Mapping[int, float], *, saturation: float | None) -> dict[int, float]:
        """What each of the query's terms brings to one document."""
        gains: dict[int, float] = {}
        for term, weight in query.items():
            start, end = self.starts[term], self.starts[term + 1]
            at = start + int(np.searchsorted(self.documents[start:end], document))
            if at < end and self.documents[at] == document:
                held = float(self.weights[at])
                gains[term] = weight * self.idf(term) * (held / (saturation + held) if saturation is not None else held)
        return gains


class Vocabulary:
    """A number for each term."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, terms: Iterable[str]) -> Numbers:
        numbers = self.numbers
        return np.array([numbers.setdefault(term, len(numbers)) for term in terms], dtype=np.int64)

    def query(self, weights: Mapping[str, float]) -> dict[int, float]:
        """The weights by number, of terms that are known."""
        return {self.numbers[term]: float(weight) for term, weight in weights.items() if term in self.numbers}


def over_maximum(scores: Floats, among: npt.NDArray[np.bool_]) -> Floats:
    """The scores divided by the highest one among some; nothing is over one."""
    highest = float(scores[among].max(initial=0.0))
    if highest <= 0:
        highest = float(scores.max(initial=0.0))
    return np.minimum(scores / highest, 1.0) if highest > 0 else scores
