"""All pairs as numbers: a vocabulary of stems, and for each pair how often which stem is where."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from integrations.embedders.static.fields import text_words
from integrations.embedders.static.stems import WORD, Vocabulary, stem, word_parts
from training.arrays import arrays_write
from training.manifest import Package
from training.pairs import Pair, code_key, query_key
from training.resembling import Evaluated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

#: Changes when the same pairs would give another corpus.
CORPUS_RULES = 2
#: A question that stands at more pieces of code in all packages says little of each.
_SAME_QUERIES = 3


@dataclass(frozen=True)
class Bags:
    """For each row, entries of stem, field and how often; ``bounds`` has one more than there are rows."""

    stems: NDArray[np.int32]
    fields: NDArray[np.uint8]
    times: NDArray[np.uint16]
    bounds: Ints

    def __len__(self) -> int:
        return len(self.bounds) - 1


@dataclass(frozen=True)
class Corpus:
    stems: tuple[str, ...]
    #: In how many pairs each stem is, and the form in which people write it most often.
    counts: NDArray[np.int64]
    forms: tuple[str, ...]
    documents: Bags
    queries: Bags
    #: Empty bags where a pair has no prose.
    proses: Bags
    #: By pair: its package, its query (equal where queries are), its language.
    packages: NDArray[np.int32]
    query_numbers: NDArray[np.int32]
    languages: tuple[str, ...]
    language_numbers: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.packages)


class _Stems(dict[str, tuple[int, ...]]):
    """The provisional numbers of a word's stems; every stem gets one."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}
        self.forms: dict[str, Counter[str]] = {}

    def __missing__(self, word: str) -> tuple[int, ...]:
        found = []
        for part in word_parts(word):
            told = stem(part)
            found.append(self.numbers.setdefault(told, len(self.numbers)))
            self.forms.setdefault(told, Counter())[part] += 1
        made = self[word] = tuple(found)
        return made


class _Rows:
    """Bags in the making."""

    def __init__(self) -> None:
        self.stems, self.fields, self.times, self.bounds = array("i"), array("B"), array("H"), array("q", [0])

    def add(self, stems: Iterable[int], at: int) -> None:
        counts = Counter(stems)
        self.stems.extend(counts)
        self.fields.extend([at] * len(counts))
        self.times.extend(counts.values())

    def close(self) -> None:
        self.bounds.append(len(self.stems))


def corpus_make(
    files: Iterable[tuple[Package, Iterable[Pair]]],
    *,
    evaluated: Evaluated,
    max_stems: int,
    min_count: int,
    tell: Callable[[str], None],
) -> Corpus:
    known = _Stems()
    documents, queries, proses = _Rows(), _Rows(), _Rows()
    packages, query_numbers, languages = array("i"), array("i"), array("b")
    language_of: dict[str, int] = {}
    number_of: dict[str, int] = {}
    counts: Counter[int] = Counter()
    for package_number, pair in pairs_learnt(files, evaluated=evaluated, tell=tell):
        asked = _stems_of(known, pair.query)
        if not asked:
            continue
        began = len(documents.stems)
        _document_add(documents, known, pair)
        queries.add(asked, 0)
        queries.close()
        proses.add(_stems_of(known, pair.prose), 0)
        proses.close()
        counts.update({*documents.stems[began:], *asked})
        packages.append(package_number)
        query_numbers.append(number_of.setdefault(query_key(pair.query), len(number_of)))
        languages.append(language_of.setdefault(pair.language, len(language_of)))
    by_number = list(known.numbers)
    # Those of equal count in alphabetical order: the same packages give the same vocabulary.
    ranked = sorted(counts.items(), key=lambda each: (-each[1], by_number[each[0]]))
    chosen = [(number, count) for number, count in ranked[:max_stems] if count >= min_count]
    stems = tuple(by_number[number] for number, _ in chosen)
    tell(f"{len(counts)} stems, of which {len(stems)} are kept, in {chosen[-1][1] if chosen else 0} pairs at least")
    renumber = _renumbering(by_number, stems)
    return Corpus(
        stems=stems,
        counts=np.array([count for _, count in chosen], dtype=np.int64),
        forms=tuple(known.forms[each].most_common(1)[0][0] for each in stems),
        documents=_bags(documents, renumber),
        queries=_bags(queries, renumber),
        proses=_bags(proses, renumber),
        packages=np.array(packages, dtype=np.int32),
        query_numbers=np.array(query_numbers, dtype=np.int32),
        languages=tuple(language_of),
        language_numbers=np.array(languages, dtype=np.int8),
    )


def pairs_learnt(
    files: Iterable[tuple[Package, Iterable[Pair]]], *, evaluated: Evaluated, tell: Callable[[str], None]
) -> Iterator[tuple[int, Pair]]:
    """The pairs to learn from, each with its package's number: no copies, and nothing like what is evaluated on."""
    codes: set[str] = set()
    uses: Counter[str] = Counter()
    learnt = resembling = doubled = 0
    for package_number, (package, pairs) in enumerate(files):
        for pair in pairs:
            query, code = query_key(pair.query), code_key(pair.text)
            if code in codes or uses[query] >= _SAME_QUERIES:
                doubled += 1
                continue
            if evaluated.resembles(pair):
                resembling += 1
                continue
            codes.add(code)
            uses[query] += 1
            learnt += 1
            yield package_number, pair
        if package_number % 25 == 0:
            tell(f"{package_number} packages, {learnt} pairs, {package.name}")
    tell(f"{learnt} pairs; left out: {resembling} like what is evaluated on, {doubled} copies")


def _document_add(rows: _Rows, known: _Stems, pair: Pair) -> None:
    for at, words in enumerate(text_words(f"{pair.path} {pair.qualified_name}\n{pair.text}")):
        rows.add(chain.from_iterable(map(known.__getitem__, words)), at)
    rows.close()


def _stems_of(known: _Stems, text: str) -> list[int]:
    return list(chain.from_iterable(map(known.__getitem__, WORD.findall(text))))


def _renumbering(stems: Sequence[str], vocabulary: Sequence[str]) -> tuple[Ints, Ints]:
    """From provisional numbers to those of the vocabulary, of which a stem may need several: bounds, and numbers."""
    final = Vocabulary(vocabulary)
    found = [final.stem_numbers(each) for each in stems]
    bounds = np.concatenate([[0], np.cumsum([len(each) for each in found])]).astype(np.int64)
    return bounds, np.fromiter(chain.from_iterable(found), dtype=np.int64)


def _bags(rows: _Rows, renumber: tuple[Ints, Ints]) -> Bags:
    starts, numbers = renumber
    stems = np.frombuffer(rows.stems, dtype=np.int32).astype(np.int64) if rows.stems else np.zeros(0, np.int64)
    sizes = starts[stems + 1] - starts[stems]
    entries = np.repeat(np.arange(len(stems)), sizes)
    within = np.arange(len(entries)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    made = numbers[starts[stems[entries]] + within]
    before = np.concatenate([[0], np.cumsum(sizes)])
    return Bags(
        stems=made.astype(np.int32),
        fields=np.array(rows.fields, dtype=np.uint8)[entries],
        times=np.array(rows.times, dtype=np.uint16)[entries],
        bounds=before[np.array(rows.bounds, dtype=np.int64)],
    )


_BAGS = ("documents", "queries", "proses")
_ARRAYS = ("counts", "packages", "query_numbers", "language_numbers")
_TEXTS = ("stems", "forms", "languages")


def corpus_write(corpus: Corpus, path: Path) -> None:
    arrays: dict[str, Any] = {name: getattr(corpus, name) for name in _ARRAYS}
    arrays |= {name: np.array("\n".join(getattr(corpus, name))) for name in _TEXTS}
    for name in _BAGS:
        bags = getattr(corpus, name)
        arrays |= {f"{name}_{part}": getattr(bags, part) for part in ("stems", "fields", "times", "bounds")}
    arrays_write(path, **arrays)


def corpus_read(path: Path) -> Corpus:
    with np.load(path) as found:
        bags: dict[str, Any] = {
            name: Bags(*(found[f"{name}_{part}"] for part in ("stems", "fields", "times", "bounds"))) for name in _BAGS
        }
        parts: dict[str, Any] = {name: found[name] for name in _ARRAYS}
        parts |= {name: tuple(str(found[name]).split("\n")) for name in _TEXTS}
        return Corpus(**parts, **bags)


def inverse_frequencies(corpus: Corpus) -> NDArray[np.float32]:
    """What a stem weighs before anything is learnt."""
    return np.log(1 + len(corpus) / corpus.counts).astype(np.float32)
