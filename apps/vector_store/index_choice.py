"""Which index keeps the vectors: pgvector, or Pinecone where there is a key of it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from django.conf import settings

from integrations.pinecone_config import PineconeConfig, PineconeConfigError, pinecone_config

from .errors import VectorIndexUnavailable
from .indexes import pgvector, pinecone

if TYPE_CHECKING:
    from .types import VectorIndex

INDEXES = (pgvector.NAME, pinecone.NAME)
_pinecones: dict[tuple[int, PineconeConfig], pinecone.PineconeIndex] = {}
_lock = threading.Lock()


def index_chosen() -> str:
    """The name of the index for new vectors."""
    return settings.ARCHON_VECTOR_INDEX or (pinecone.NAME if settings.PINECONE_API_KEY else pgvector.NAME)


def vector_index(name: str) -> VectorIndex:
    """The index of that name. Raises :class:`VectorIndexUnavailable` where it isn't configured."""
    return pgvector.PgVectorIndex() if name == pgvector.NAME else pinecone_index()


def pinecone_index() -> pinecone.PineconeIndex:
    """Pinecone's, with this process's connections to it."""
    try:
        config = pinecone_config()
    except PineconeConfigError as error:
        raise VectorIndexUnavailable(str(error), next_step="The operator corrects it.") from error
    if config is None:
        raise VectorIndexUnavailable(
            "the vectors are in Pinecone, and there is no key of it any more",
            next_step="Set PINECONE_API_KEY, or ARCHON_VECTOR_INDEX=pgvector: vectors then fill in there.",
        )
    with _lock:
        index = _pinecones.get((os.getpid(), config))
        if index is None:
            index = _pinecones[os.getpid(), config] = pinecone.PineconeIndex(config)
        return index


def indexes_close() -> None:
    """Close the connections; the next search opens them anew."""
    with _lock:
        indexes = list(_pinecones.values())
        _pinecones.clear()
    for index in indexes:
        index.close()
