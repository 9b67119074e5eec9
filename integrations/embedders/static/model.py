"""The model: a table of stems' vectors, mapped into memory, and what weighs each stem where it stands."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from integrations.embedders.errors import EmbedderMissing
from integrations.embedders.static.fields import FIELDS, FIRST_BODY, text_words
from integrations.embedders.static.stems import WORD, Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

#: The parts of the model's folder.
DESCRIPTION, STEMS, WEIGHTS, VECTORS = "model.json", "stems.tsv", "weights.npy", "vectors.npy"
#: The columns of the weights: what a number of a vector's row is multiplied by, and the logarithms of a stem's
#: weight in a query, in names and paths, and in bodies.
SCALE, QUERY, NAMES, BODIES = range(4)
#: More than a chunk has. What is behind it is not read.
MAX_CHARACTERS = 8_000
_BATCH = 128
_MAX_TIMES = 4_000


class StaticModel:
    """Safe to use from several threads: what it keeps is read, but for a dictionary that fills itself."""

    def __init__(self, folder: Path) -> None:
        try:
            description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text("utf-8"))
            stems = [line.partition("\t")[0] for line in (folder / STEMS).read_text("utf-8").splitlines()]
            weights = np.load(folder / WEIGHTS).astype(np.float32)
            table = np.load(folder / VECTORS, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise EmbedderMissing(
                f"the model in {folder.name} cannot be read: {error}",
                next_step="Restore the folder from the release, or choose another embedder with ARCHON_EMBEDDER.",
            ) from error
        self.version = str(description["version"])
        self.dimension = int(description["dimension"])
        if table.shape != (len(stems), self.dimension) or weights.shape != (len(stems), 4) or table.dtype != np.int8:
            raise EmbedderMissing(
                f"the model in {folder.name} is not whole: {len(stems)} stems, {table.shape} vectors",
                next_step="Restore the folder from the release, or choose another embedder with ARCHON_EMBEDDER.",
            )
        # The same memory, without what makes each look-up of a memmap slow.
        self._table: NDArray[np.int8] = table.view(np.ndarray)
        self._stems = len(stems)
        self._vocabulary = Vocabulary(stems)
        scale = weights[:, SCALE]
        fields = np.exp(np.array([description["fields"][field] for field in FIELDS], dtype=np.float32))
        self._query = np.exp(weights[:, QUERY]) * scale
        names, bodies = np.exp(weights[:, NAMES]) * scale, np.exp(weights[:, BODIES]) * scale
        #: By field and stem, one field after the other.
        self._document = np.concatenate(
            [(bodies if number >= FIRST_BODY else names) * fields[number] for number in range(len(FIELDS))]
        )
        self._times = np.log1p(np.arange(_MAX_TIMES, dtype=np.float32))

    def embed(self, texts: Sequence[str], *, kind: Literal["document", "query"]) -> Vectors:
        """One row a text, of length one; texts without any word that is known are all alike."""
        made = np.full((len(texts), self.dimension), self.dimension**-0.5, dtype=np.float32)
        if kind == "query":
            for row, text in enumerate(texts):
                self._query_pool(made[row], text)
        else:
            for start in range(0, len(texts), _BATCH):
                self._pool(made[start : start + _BATCH], *self._document_bags(texts[start : start + _BATCH]))
        return made

    def _query_pool(self, made: Vectors, text: str) -> None:
        """One by one: what arrays cost to set up is more than a dozen words do."""
        known = self._vocabulary.__getitem__
        times = Counter(chain.from_iterable(map(known, WORD.findall(text[:MAX_CHARACTERS]))))
        if times:
            numbers = list(times)
            weights = self._query[numbers] * self._times[[min(each, _MAX_TIMES - 1) for each in times.values()]]
            _set_direction(made, weights @ self._table[numbers].astype(np.float32))

    def _document_bags(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], Vectors]:
        known = self._vocabulary.__getitem__
        bags = [
            list(chain.from_iterable(map(known, words)))
            for text in texts
            for words in text_words(text[:MAX_CHARACTERS])
        ]
        rows, numbers, times = _counted(bags, self._stems)
        weights = self._document[rows % len(FIELDS) * self._stems + numbers] * self._times[times]
        return rows // len(FIELDS), numbers, weights

    def _pool(self, made: Vectors, rows: NDArray[np.int64], numbers: NDArray[np.int64], weights: Vectors) -> None:
        table, bounds = self._table, np.searchsorted(rows, np.arange(len(made) + 1)).tolist()
        for row in range(len(made)):
            start, end = bounds[row], bounds[row + 1]
            if start < end:
                _set_direction(made[row], weights[start:end] @ table[numbers[start:end]].astype(np.float32))


def _set_direction(made: Vectors, vector: Vectors) -> None:
    length = math.sqrt(vector @ vector)
    if length > 0:
        np.multiply(vector, 1 / length, out=made)


def _counted(
    bags: Sequence[Sequence[int]], stems: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """How often each bag has each stem: the bags' numbers, the stems', and how often, in the order of bags."""
    sizes = np.fromiter(map(len, bags), dtype=np.int64, count=len(bags))
    codes = np.fromiter(chain.from_iterable(bags), dtype=np.int64, count=int(sizes.sum()))
    codes += np.repeat(np.arange(len(bags), dtype=np.int64) * stems, sizes)
    distinct, times = np.unique(codes, return_counts=True)
    return distinct // stems, distinct % stems, np.minimum(times, _MAX_TIMES - 1)
