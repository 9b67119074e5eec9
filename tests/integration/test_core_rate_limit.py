"""A limit holds over threads and processes, and while Redis is away."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from apps.core.errors import LimitReached
from apps.core.rate_limit import rate_limit_clear, rate_limit_take
from integrations.cache.connection import redis_client_forget


@pytest.fixture(params=["redis", "no redis"])
def subject(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    if request.param == "no redis":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            settings.REDIS_URL = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
        redis_client_forget()
    yield uuid.uuid4().hex
    redis_client_forget()


def _accepted(subject: str) -> bool:
    try:
        rate_limit_take(name="test", subject=subject, limit=5, seconds=60)
    except LimitReached as error:
        assert 0 < error.extra["retry_after"] <= 61
        return False
    return True


def test_of_a_burst_exactly_the_limit_passes(subject: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        accepted = list(pool.map(lambda _: _accepted(subject), range(40)))
    assert accepted.count(True) == 5


def test_subjects_count_for_themselves_and_can_be_cleared(subject: str) -> None:
    assert [_accepted(subject) for _ in range(6)] == [True] * 5 + [False]
    assert _accepted(f"{subject}-other")
    rate_limit_clear(name="test", subject=subject)
    assert _accepted(subject)
