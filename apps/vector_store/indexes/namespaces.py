"""What both indexes share: the rows of their namespaces, and what an id may be."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from apps.core.errors import InvalidInput
from apps.vector_store.models import VectorNamespace

if TYPE_CHECKING:
    from apps.vector_store.types import Vector

T = TypeVar("T")

MAX_LIMIT = 1_000
_ID = re.compile(r"[!-~]{1,64}")


def namespace_find(*, name: str, index: str) -> VectorNamespace | None:
    return VectorNamespace.objects.filter(name=name, index=index).first()


def namespace_for(*, name: str, index: str, dimension: int) -> VectorNamespace:
    """The namespace, made where there is none. Raises InvalidInput where its vectors have another length."""
    namespace, _ = VectorNamespace.objects.get_or_create(name=name, defaults={"index": index, "dimension": dimension})
    if namespace.index != index:
        raise InvalidInput(f"the vectors of {name} are in {namespace.index}, and not in {index}")
    dimension_check(namespace, dimension)
    return namespace


def dimension_check(namespace: VectorNamespace, dimension: int) -> None:
    if namespace.dimension != dimension:
        raise InvalidInput(
            f"a vector of {dimension} numbers does not belong to {namespace.name}, whose vectors have "
            f"{namespace.dimension}"
        )


def vectors_check(vectors: Sequence[tuple[str, Vector]]) -> dict[str, Vector]:
    """The last vector of each id. Raises InvalidInput for ids and vectors that cannot be kept."""
    ids_check(vector_id for vector_id, _ in vectors)
    lengths = {len(vector) for _, vector in vectors}
    if len(lengths) > 1 or 0 in lengths:
        raise InvalidInput(f"vectors of one call have one length, and not {sorted(lengths)}")
    return dict(vectors)


def ids_check(ids: Iterable[str]) -> None:
    for vector_id in ids:
        if not _ID.fullmatch(vector_id):
            raise InvalidInput(f"{vector_id[:80]!r} is no id of a vector: 1 to 64 printable ASCII characters")


def limit_check(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"a search finds 1 to {MAX_LIMIT} vectors, and not {limit}")


def in_batches(items: Collection[T], size: int) -> Iterable[list[T]]:
    ordered = list(items)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
