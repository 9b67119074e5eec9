"""Jobs of the app."""

from __future__ import annotations

from celery import shared_task

from apps.authentication.services.tokens import token_families_prune


@shared_task(name="apps.authentication.tasks.prune_tokens", ignore_result=True)
def prune_tokens() -> None:
    """Delete sign-ins that have expired."""
    token_families_prune()
