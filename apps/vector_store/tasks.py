"""What the queue wakes: writes that Pinecone has to be sent, and the housekeeping of vectors."""

from __future__ import annotations

import logging

from celery import shared_task
from django.db import connection

from .errors import VectorIndexUnavailable

logger = logging.getLogger(__name__)

#: One process at a time looks after approximate indexes.
_LOCK = "archon vectors"


@shared_task(name="apps.vector_store.tasks.flush_vectors")
def flush_vectors() -> None:
    """Send Pinecone what it hasn't taken, and let go of what its searches find by now."""
    from .index_choice import pinecone_index
    from .models import PineconeVector

    if not PineconeVector.objects.exists():
        return
    try:
        pinecone_index().flush()
    except VectorIndexUnavailable as error:
        logger.warning("the vectors for Pinecone wait: %s", error.message)


@shared_task(name="apps.vector_store.tasks.tend_vectors")
def tend_vectors() -> None:
    """Empty what nobody uses, keep the cache within its size, count calls of dead processes, see to large projects."""
    from apps.usage.embedding import embedding_calls_expire

    from .cache import cache_prune
    from .indexes.pgvector_tuning import namespaces_tune
    from .spaces import models_forget, namespaces_sweep

    embedding_calls_expire()
    namespaces_sweep()
    models_forget()
    cache_prune()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [_LOCK])
        if not cursor.fetchone()[0]:
            return
    try:
        namespaces_tune()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtext(%s))", [_LOCK])
