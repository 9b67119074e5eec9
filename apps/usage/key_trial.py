"""Trying a stored key, in a worker: from where sessions call models, and where nobody waits for the answer."""

from __future__ import annotations

import asyncio
import base64
import uuid
from urllib.parse import quote

from django.utils import timezone

from apps.core.errors import ApplicationError
from integrations.llm_providers.probe import ProbeResult, model_probe
from integrations.llm_providers.types import ModelSpec

from .keys import spec_of
from .models import KeyTest, ProviderKey

#: Seconds for the whole of it.
TEST_SECONDS = 20.0
_SHOWN = 1_000


def key_try(*, key_id: uuid.UUID, requested_at: str, model: str = "") -> None:
    """Carry the test out and write its result, unless the key was replaced or tested anew meanwhile."""
    key = ProviderKey.objects.filter(id=key_id).first()
    if key is None or key.test_state != KeyTest.PENDING or key.test_requested_at is None:
        return
    if key.test_requested_at.isoformat() != requested_at:
        return
    try:
        spec = spec_of(key, model=model)
    except ApplicationError as error:
        _write(key, KeyTest.BAD, error.message, error.next_step)
        return
    result = asyncio.run(_probe(spec))
    if result is None:
        _write(key, KeyTest.BAD, f"{spec.base_url} did not answer in {TEST_SECONDS:.0f} s", "Try again later.")
        return
    if not result.ok:
        secret = spec.api_key.reveal()
        _write(key, KeyTest.BAD, secret_blacken(result.message, secret), secret_blacken(result.next_step, secret))
    elif model and result.model_listed is False:
        message = f"{spec.base_url} takes the key, but lists no model '{spec.model}'."
        _write(key, KeyTest.BAD, message, _models_told(result))
    else:
        count = "1 model" if len(result.models) == 1 else f"{len(result.models)} models"
        listed = f" It lists {count}." if result.models else ""
        _write(key, KeyTest.GOOD, f"{spec.base_url} takes the key.{listed}", "")


async def _probe(spec: ModelSpec) -> ProbeResult | None:
    try:
        async with asyncio.timeout(TEST_SECONDS):
            return await model_probe(spec)
    except TimeoutError:
        return None


def secret_blacken(text: str, secret: str) -> str:
    """The text without the secret, should an endpoint repeat it in one form or another."""
    encoded = base64.b64encode(secret.encode()).decode()
    for form in (secret, quote(secret, safe=""), encoded, encoded.rstrip("=")):
        if len(form) > 4:
            text = text.replace(form, "***")
    return text


def _models_told(result: ProbeResult) -> str:
    if not result.models:
        return "Check the model's name."
    return f"Choose one that it has: {', '.join(result.models[:20])}."


def _write(key: ProviderKey, state: KeyTest, message: str, next_step: str) -> None:
    ProviderKey.objects.filter(id=key.id, secret=key.secret, test_requested_at=key.test_requested_at).update(
        test_state=state,
        tested_at=timezone.now(),
        test_message=message[:_SHOWN],
        test_next_step=next_step[:_SHOWN],
        updated_at=timezone.now(),
    )
