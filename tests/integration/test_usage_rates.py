"""How fast providers are asked: the operator's limits and the rests that providers ask for hold for all workers."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from apps.usage.errors import ModelCallFailed
from apps.usage.provider_rates import ProviderRates, provider_limit_find
from integrations.cache.buckets import Draw, Taken, TokenBuckets
from integrations.cache.keys import digest, key_name
from integrations.llm_providers.types import ModelSpec, Secret
from tests.integration.usage_scene import loopback_spec, scene
from tests.loopback.openai_server import OpenAIServer, Reply, Request

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@pytest.fixture(params=["redis", "no redis"])
def is_shared(request: pytest.FixtureRequest, settings: Any) -> bool:
    """Whether there is a Redis."""
    if request.param == "no redis":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            settings.REDIS_URL = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
    return bool(request.param == "redis")


@asynccontextmanager
async def buckets() -> AsyncIterator[TokenBuckets]:
    made = TokenBuckets()
    try:
        yield made
    finally:
        await made.close()


async def take(on: TokenBuckets, *draws: Draw, patience: float = 1000, cooldown: str = "archon:test:none") -> Taken:
    return await on.take(cooldown=cooldown, draws=draws, patience_s=patience)


def name() -> str:
    return f"archon:test:{uuid.uuid4().hex}"


async def test_a_bucket_gives_what_flows_in_within_a_minute_and_then_makes_wait(is_shared: bool) -> None:
    key = name()
    async with buckets() as on:
        taken = await asyncio.gather(*(take(on, Draw(key, 1, 6)) for _ in range(10)))
        waits = sorted(each.wait_s for each in taken)
        assert waits[:6] == [0] * 6
        # Each of the others has a turn of its own, ten seconds after the one before.
        assert [round(wait / 10) for wait in waits[6:]] == [1, 2, 3, 4]
        refused = await take(on, Draw(key, 1, 6), patience=5)
        assert not refused.ok and refused.wait_s > 5
        # Who was refused has taken nothing, and what is given back is there for others.
        assert round((await take(on, Draw(key, 1, 6))).wait_s / 10) == 5
        await take(on, Draw(key, -5, 6), patience=float("inf"))
        assert round((await take(on, Draw(key, 1, 6))).wait_s / 10) == 1


async def test_all_buckets_have_to_have_it_and_none_is_taken_from_otherwise(is_shared: bool) -> None:
    requests, tokens = name(), name()
    async with buckets() as on:
        assert (await take(on, Draw(requests, 1, 60), Draw(tokens, 900, 1000))).wait_s == 0
        assert not (await take(on, Draw(requests, 1, 60), Draw(tokens, 900, 1000), patience=1)).ok
        assert (await take(on, Draw(requests, 59, 60))).wait_s == 0
        # What is larger than the bucket is let through once the bucket is full.
        assert (await take(on, Draw(name(), 10**9, 1000))).wait_s == 0


async def test_processes_share_buckets_and_cooldowns_through_redis_and_only_through_it(is_shared: bool) -> None:
    key, cooldown = name(), name()
    async with buckets() as one, buckets() as other:
        await take(one, Draw(key, 6, 6))
        await one.cool(cooldown=cooldown, seconds=500)
        await one.cool(cooldown=cooldown, seconds=5)
        mine = await take(one, cooldown=cooldown)
        theirs = await take(other, Draw(key, 1, 6), cooldown=cooldown)
    assert 400 < mine.cooling_s <= 500
    assert (theirs.wait_s > 400, theirs.cooling_s > 400) == (is_shared, is_shared)


async def test_redis_that_is_away_is_told_once_and_shared_again_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("integrations.cache.buckets.REST_SECONDS", 0.0)
    there = urlsplit(settings.REDIS_URL)
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    key = name()
    settings.REDIS_URL = there._replace(netloc=f"{there.netloc.rpartition(':')[0]}:{port}").geturl()
    async with buckets() as on:
        for _ in range(3):
            assert (await take(on, Draw(key, 1, 60))).ok
        assert caplog.text.count("are kept by this process alone") == 1
        async with await asyncio.start_server(_relay_to(there.port or 6379), "127.0.0.1", port):
            # In Redis nothing was taken yet.
            assert (await take(on, Draw(key, 60, 60))).wait_s == 0
            assert "are shared again" in caplog.text
    settings.REDIS_URL = there.geturl()
    async with buckets() as other:
        assert (await take(other, Draw(key, 1, 60))).wait_s > 0


def _relay_to(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while part := await source.read(65536):
            target.write(part)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

    return serve


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_rest_that_a_provider_asks_for_is_kept_by_every_worker(form: str) -> None:
    def answer(request: Request) -> Reply:
        until = "900" if form == "seconds" else email.utils.formatdate(time.time() + 900, usegmt=True)
        return Reply(failure="rate_limited", retry_after=until) if request.model == "busy" else Reply(text="Hello.")

    with OpenAIServer(answer) as server:
        busy = loopback_spec(server, model="busy")
        async with scene() as one:
            with pytest.raises(ModelCallFailed):
                await one.call(busy)
        async with scene() as other:
            with pytest.raises(ModelCallFailed) as caught:
                await other.call(busy)
            assert (await other.budget()).reserved_steps == 0
            # Another model is not concerned, nor is another key.
            assert (await other.call(busy, fallbacks=[loopback_spec(server)])).model == "openai:gpt-4o-mini"
            with pytest.raises(ModelCallFailed):
                await other.call(loopback_spec(server, model="busy", api_key=Secret("another")))
    assert (caught.value.kind, caught.value.retryable) == ("rate_limited", True)
    assert "has asked to be left alone for another" in caught.value.message
    assert caught.value.retry_after is not None and 800 < caught.value.retry_after <= 901
    assert [request.model for request in server.requests] == ["busy", "gpt-4o-mini", "busy"]


async def test_a_wrong_key_is_shown_once_and_no_other_model_asked() -> None:
    with OpenAIServer(lambda request: Reply(text="Hello."), api_key="right") as server:
        async with scene() as on:
            with pytest.raises(ModelCallFailed) as caught:
                await on.call(loopback_spec(server), fallbacks=[loopback_spec(server, api_key=Secret("right"))])
    assert caught.value.kind == "auth"
    assert (len(server.paths), server.requests) == (1, [])


async def test_calls_wait_for_their_turn_within_the_operators_limits(settings: Any) -> None:
    settings.ARCHON_PROVIDER_LIMITS = {"openai:slow*": (2, None), "openai": (None, 1000)}
    slow = ModelSpec(provider="openai", model="slow-1", base_url="http://127.0.0.1:1", api_key=Secret(name()))
    rates = ProviderRates(max_cooldown_s=60)
    try:
        for _ in range(2):
            await rates.admit(slow, tokens=lambda: 0)
        waiting = asyncio.create_task(rates.admit(slow, tokens=lambda: 0))
        done, _ = await asyncio.wait({waiting}, timeout=1)
        assert not done, "it did not wait"
        # Whoever gives up gives its turn back.
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        again = await rates._buckets.take(cooldown=name(), draws=[_draw_of(slow)], patience_s=1000)
        assert 20 < again.wait_s <= 30
    finally:
        await rates.close()


def _draw_of(spec: ModelSpec) -> Draw:
    account = digest(spec.base_url, spec.api_key.reveal())
    return Draw(key_name("rate", "openai:slow*", account, "requests"), 1, 2)


async def test_a_turn_that_would_come_too_late_is_told(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.usage.provider_rates.PATIENCE_SECONDS", 5.0)
    settings.ARCHON_PROVIDER_LIMITS = {"openai": (1, None)}
    with OpenAIServer(lambda request: Reply(text="Hello.")) as server:
        async with scene() as on:
            await on.call(loopback_spec(server))
            with pytest.raises(ModelCallFailed) as caught:
                await on.call(loopback_spec(server))
    assert "ARCHON_PROVIDER_LIMITS" in caught.value.message and caught.value.kind == "rate_limited"
    assert len(server.requests) == 1


async def test_tokens_count_as_the_provider_counts_them(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.usage.provider_rates.PATIENCE_SECONDS", 1.0)
    settings.ARCHON_PROVIDER_LIMITS = {"openai": (None, 1000)}
    with OpenAIServer(lambda request: Reply(text="Hello.", usage=(900, 500, 0))) as server:
        async with scene() as on:
            await on.call(loopback_spec(server))
            with pytest.raises(ModelCallFailed):
                await on.call(loopback_spec(server))
    assert len(server.requests) == 1


async def test_the_first_name_that_fits_is_the_limit_of_a_model() -> None:
    limits = {"openai:gpt-5*": (1, None), "openai": (2, None), "anthropic:*": (None, 3)}

    def found(spec: str) -> str:
        provider, _, model = spec.partition(":")
        return provider_limit_find(ModelSpec(provider=provider, model=model), limits)[0]

    assert [found(each) for each in ("openai:gpt-5-mini", "openai:gpt-4o", "anthropic:x", "gemini:openai")] == [
        "openai:gpt-5*", "openai", "anthropic:*", "",
    ]  # fmt: skip
