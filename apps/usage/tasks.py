"""What the queue wakes: trying a stored key."""

from __future__ import annotations

import uuid

from celery import shared_task


@shared_task(name="apps.usage.tasks.try_provider_key")
def try_provider_key(key_id: str, requested_at: str, model: str) -> None:
    """Ask the provider with the key, and write down what it says."""
    from .key_trial import key_try

    key_try(key_id=uuid.UUID(key_id), requested_at=requested_at, model=model)
