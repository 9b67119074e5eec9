"""The vectors to begin with: MiniLM's of each stem's commonest form, so that words that are used alike start near.

All that is learnt afterwards moves them; they are worth .02 of MRR on code that was never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from integrations.embedders import minilm
from training.arrays import arrays_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

#: The directions are those of the commonest stems.
_DIRECTIONS_OF = 8_000
_BATCH = 512


def vectors_random(count: int, dimension: int, seed: int) -> Vectors:
    made = np.random.default_rng((seed, 2)).standard_normal((count, dimension)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def words_embed(words: Sequence[str], kept: Path, *, tell: Callable[[str], None]) -> Vectors:
    """MiniLM's vectors of words. Those that were ever asked for are in the file."""
    known: dict[str, Vectors] = {}
    if kept.exists():
        with np.load(kept) as found:
            known = dict(zip(str(found["words"]).split("\n"), found["vectors"], strict=True))
    missing = [word for word in words if word not in known]
    if missing:
        pool = minilm.pool(size=1, idle_s=60.0, niceness=0)
        try:
            for at in range(0, len(missing), _BATCH):
                batch = missing[at : at + _BATCH]
                known.update(zip(batch, pool.embed(batch), strict=True))
                if at // _BATCH % 4 == 3 or at + _BATCH >= len(missing):
                    tell(f"{at + len(batch)} of {len(missing)} words have a vector to begin with")
                    _words_write(kept, known)
        finally:
            pool.close()
    return np.stack([known[word] for word in words])


def _words_write(kept: Path, known: dict[str, Vectors]) -> None:
    arrays_write(kept, words=np.array("\n".join(known)), vectors=np.stack(list(known.values())).astype(np.float32))


def vectors_begin(words: Vectors, dimension: int) -> Vectors:
    """Fewer dimensions, the ones that tell most apart, and none of them much louder than the others."""
    centred = words - words.mean(0)
    head = centred[:_DIRECTIONS_OF]
    _, sizes, directions = np.linalg.svd(head, full_matrices=False)
    turned = centred @ directions.T / np.sqrt(sizes / np.sqrt(len(head)) + 1e-9)
    made = turned[:, :dimension]
    # The sign of a direction is an accident of the machine.
    made = made * np.where(directions[:dimension].sum(1) < 0, -1, 1)
    made = made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)
    return np.asarray(made, dtype=np.float32)
