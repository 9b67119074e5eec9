"""What resembles what the model is held against, though it may not equal it: such pairs are not learnt.

Queries are near where their stems differ by one at most: one more, one less, or one instead of another. Code is near
where most of a sample of its runs of words are the same: a renamed variable or another indentation hides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from zlib import crc32

from integrations.embedders.static.stems import WORD, text_stems
from training.pairs import Pair, query_key

#: Words in a run, runs in a sample, and how much of both samples' smallest values has to be the same.
_RUN = 4
_SAMPLE = 16
_SAME = 0.6
#: With fewer stems, one that differs makes another question.
_FEW = 4


class Evaluated:
    """The queries and the code of what is evaluated on."""

    def __init__(self) -> None:
        self._queries: set[str] = set()
        self._near: set[frozenset[str]] = set()
        self._samples: list[frozenset[int]] = []
        self._holders: dict[int, list[int]] = {}

    def add(self, pair: Pair) -> None:
        self._queries.add(query_key(pair.query))
        self._near.update(_neighbours(text_stems(pair.query)))
        sample = code_sample(pair.text)
        for value in sample:
            self._holders.setdefault(value, []).append(len(self._samples))
        self._samples.append(sample)

    def resembles(self, pair: Pair) -> bool:
        return self._has_query(pair.query) or self._has_code(pair.text)

    def _has_query(self, query: str) -> bool:
        if query_key(query) in self._queries:
            return True
        return any(each in self._near for each in _neighbours(text_stems(query)))

    def _has_code(self, text: str) -> bool:
        sample = code_sample(text)
        shared = Counter(holder for value in sample for holder in self._holders.get(value, ()))
        return any(
            times >= 2 and samples_agree(sample, self._samples[holder]) >= _SAME
            for holder, times in shared.most_common(5)
        )


def code_sample(text: str) -> frozenset[int]:
    """The least hashes of the text's runs of words: two texts' samples agree about as far as their runs do."""
    words = WORD.findall(text.lower())
    runs = {crc32(" ".join(words[at : at + _RUN]).encode()) for at in range(max(1, len(words) - _RUN + 1))}
    return frozenset(sorted(runs)[:_SAMPLE])


def samples_agree(one: frozenset[int], other: frozenset[int]) -> float:
    """About how much of all runs both have: of the least of all hashes, those that are in both."""
    least = sorted(one | other)[:_SAMPLE]
    return sum(value in one and value in other for value in least) / len(least)


def _neighbours(stems: frozenset[str]) -> Iterator[frozenset[str]]:
    """The set, and where it is large enough each that has one less: two sets that differ by one share one of these."""
    yield stems
    if len(stems) >= _FEW:
        for each in stems:
            yield stems - {each}
