"""What embeds and what keeps vectors, as everyone else sees them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    #: One row a text, each of length one, so that a product of two is their cosine.
    Vectors = NDArray[np.float32]
    Vector = NDArray[np.float32]
else:
    # An API process that embeds nothing loads no numpy.
    Vectors = Vector = Any
#: Some models read a question otherwise than what answers it.
EmbedKind = Literal["document", "query"]
EMBED_KINDS: tuple[EmbedKind, ...] = get_args(EmbedKind)
#: A project may have two vectors a chunk: the one that search relies on, and one more that fills in later.
Slot = Literal["primary", "second"]
SLOTS: tuple[Slot, ...] = ("primary", "second")


class Embedder(Protocol):
    """Makes vectors of texts. Safe to use from several threads."""

    @property
    def key(self) -> str:
        """``VENDOR:MODEL:VERSION:DIMENSION``. Vectors of two keys cannot be compared."""

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str], *, kind: EmbedKind) -> Vectors:
        """One row a text, in order; any number of texts, in batches inside.

        A text that is longer than the model reads is cut, as the model's users do. Raises
        :class:`~apps.vector_store.errors.EmbedderFailed`, and what ``apps.usage`` refuses.
        """


class Scored(NamedTuple):
    """A vector found, and its cosine to what was asked for: 1 is the same direction."""

    id: str
    score: float


class VectorIndex(Protocol):
    """Keeps vectors in namespaces and finds the nearest. Safe to use from several threads and processes.

    An id is at most 64 printable ASCII characters. What was upserted is found by the next query, whoever asks; what
    was deleted is not. All raise :class:`~apps.vector_store.errors.VectorIndexUnavailable` where it cannot be reached.
    """

    def upsert(self, *, namespace: str, vectors: Sequence[tuple[str, Vector]]) -> None:
        """Put them there, in the place of what had the same ids. In batches inside."""

    def delete(self, *, namespace: str, ids: Collection[str]) -> None:
        """Take them away; what isn't there is no error."""

    def query(self, *, namespace: str, vector: Vector, limit: int, ids: Collection[str] | None = None) -> list[Scored]:
        """The nearest, best first, with ``ids`` of these alone. An unknown namespace has none."""

    def missing(self, *, namespace: str, ids: Collection[str]) -> set[str]:
        """Which of them have no vector."""

    def count(self, *, namespace: str) -> int: ...

    def drop(self, *, namespace: str) -> None:
        """Take all of the namespace away."""


#: ``empty``: nothing is embedded yet; ``filling``: vectors come in behind the text index; ``ready``: all are there.
#: ``refilling``: the model was changed, the old vectors serve until the new ones are complete.
#: ``stopped``: embedding cannot go on (``detail`` says why); what is there serves. ``off``: no vectors here at all.
SpaceState = Literal["empty", "filling", "ready", "refilling", "stopped", "off"]
SPACE_STATES: tuple[SpaceState, ...] = get_args(SpaceState)


@dataclass(frozen=True)
class SpaceStatus:
    """How far a project's vectors of one slot are."""

    slot: Slot
    state: SpaceState
    #: Of the vectors that serve; empty: none do.
    embedder_key: str
    #: Of those that fill in behind; empty: none do.
    filling_key: str
    vectors: int
    detail: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class VectorHits:
    """What a search by meaning found. Without vectors ``hits`` is empty, and ``status`` says why."""

    hits: tuple[Scored, ...]
    status: SpaceStatus
    #: The embedder knows nothing of what was asked for, so that nothing is near to it.
    is_unknown: bool = False


@dataclass(frozen=True)
class Payer:
    """Who pays for what is embedded by a provider: the session's budget, or the project's and the user's allowances."""

    project_id: uuid.UUID
    user_id: uuid.UUID | None = None
    #: A session's budget (``apps.usage``). None: outside of any session.
    scope_id: uuid.UUID | None = None


class TextSource(Protocol):
    """Where the texts of a project's chunks are, for whoever fills its vectors."""

    def ids(self) -> Iterable[Sequence[str]]:
        """All ids that should have a vector, in batches of some hundred."""

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """Their texts; one that is gone by now is left out."""
