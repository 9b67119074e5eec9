"""The model: a table of stems' vectors, mapped into memory, and what weighs each stem where it stands."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np

from integrations.embedders.errors import EmbedderMissing
from integrations.embedders.static.fields import FIELDS, FIRST_BODY, text_words
from integrations.embedders.static.stems import WORD, Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

#: How a folder is read, and a text by it: words, stems, fields and what is summed. Changes with any of these, since a
#: table that was made for other stems gives vectors that look right and are not.
FORMAT = 1
#: The parts of the model's folder.
DESCRIPTION, STEMS, WEIGHTS, VECTORS = "model.json", "stems.tsv", "weights.npy", "vectors.npy"
#: The columns of the weights: what a number of a vector's row is multiplied by, and the logarithms of a stem's
#: weight in a query, in names and paths, and in bodies.
SCALE, QUERY, NAMES, BODIES = range(4)
#: More than a chunk has. What is behind it is not read.
MAX_CHARACTERS = 8_000
_BATCH = 128
_MAX_TIMES = 4_000
#: What reading raises where a file is no file of its kind, or is cut off, or was written for another reader.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, OverflowError, BadZipFile)


class StaticModel:
    """Safe to use from several threads: what it keeps is read, but for a dictionary that fills itself."""

    def __init__(self, folder: Path) -> None:
        try:
            description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text("utf-8"))
            if (format_told := description.get("format")) != FORMAT:
                raise _refusal(f"the model in {folder.name} is of format {format_told}, and {FORMAT} is read here")
            self.version, self.dimension = str(description["version"]), int(description["dimension"])
            fields = np.exp(np.array([description["fields"][field] for field in FIELDS], dtype=np.float32))
            stems = [line.partition("\t")[0] for line in (folder / STEMS).read_text("utf-8").splitlines()]
            weights = np.load(folder / WEIGHTS).astype(np.float32)
            table = np.load(folder / VECTORS, mmap_mode="r")
            shapes = table.shape, weights.shape, fields.shape
            is_whole = table.dtype == np.int8 and np.isfinite(weights).all() and np.isfinite(fields).all()
        except _UNREADABLE as error:
            raise _refusal(f"the model in {folder.name} cannot be read: {error!r}") from error
        if not is_whole or shapes != ((len(stems), self.dimension), (len(stems), 4), (len(FIELDS),)):
            raise _refusal(f"the model in {folder.name} is not whole: {len(stems)} stems, {table.shape} vectors")
        # The same memory, without what makes each look-up of a memmap slow.
        self._table: NDArray[np.int8] = table.view(np.ndarray)
        self._stems = len(stems)
        self._vocabulary = Vocabulary(stems)
        scale = weights[:, SCALE]
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


def _refusal(message: str) -> EmbedderMissing:
    return EmbedderMissing(
        message, next_step="Restore the folder from the release, or choose another embedder with ARCHON_EMBEDDER."
    )


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
