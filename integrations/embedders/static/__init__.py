"""Archon's own embedder of code: a bag of stems, in this process, with no package but numpy and no network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from integrations.embedders.errors import EmbedderMissing

if TYPE_CHECKING:
    from integrations.embedders.static.model import StaticModel, Vectors

EmbedKind = Literal["document", "query"]
MODEL = "archon-static"
#: Changes when the same text would get another vector.
VERSION = "3"
DIMENSION = 256
#: The most stems that have a vector of their own, and in how many pairs the rarest of them was.
STEMS, MIN_COUNT = 24_500, 5
FOLDER = Path(__file__).with_name("data")


class Engine:
    """Embeds texts of one kind where it is called."""

    def __init__(self, model: StaticModel, kind: EmbedKind) -> None:
        self._model = model
        self._kind = kind

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._model.embed(texts, kind=self._kind)

    def close(self) -> None:
        """Nothing runs that would have to end."""


def engine(kind: EmbedKind) -> Engine:
    """What embeds; the model is read once in a process. Raises :class:`EmbedderMissing`."""
    return Engine(_model(), kind)


def model_folder() -> Path:
    """Where the model is. Raises :class:`EmbedderMissing`; loads nothing."""
    if not (FOLDER / "vectors.npy").exists():
        raise EmbedderMissing(
            "the model of archon-static is not where it belongs",
            next_step="Restore integrations/embedders/static/data from the release, or make it: archon train embedder.",
        )
    return FOLDER


@cache
def _model() -> StaticModel:
    from integrations.embedders.static.model import StaticModel

    found = StaticModel(model_folder())
    if (found.version, found.dimension) != (VERSION, DIMENSION):
        raise EmbedderMissing(
            f"the model of archon-static is version {found.version} of {found.dimension} numbers, and not {VERSION} "
            f"of {DIMENSION}",
            next_step="Restore integrations/embedders/static from the release.",
        )
    return found
