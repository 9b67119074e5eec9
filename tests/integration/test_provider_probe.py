"""Whether a key opens its endpoint, asked for nothing and told in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from integrations.llm_providers.probe import model_probe
from integrations.llm_providers.types import ModelSpec, Secret
from tests.loopback.wire import ModelServer, Reply
from tests.loopback.wires import WIRES, Spoken

pytestmark = pytest.mark.asyncio
KEY = "sk-right"


@pytest.fixture(params=WIRES)
def spoken(request: pytest.FixtureRequest) -> Spoken:
    return WIRES[request.param]


@pytest.fixture
def server(spoken: Spoken) -> Iterator[ModelServer]:
    with spoken.server(lambda request: Reply(text="never"), api_key=KEY) as running:
        yield running


def spec_of(spoken: Spoken, server: ModelServer, **changes: Any) -> ModelSpec:
    spec = ModelSpec(provider=spoken.provider, model=spoken.model, base_url=server.base_url, api_key=Secret(KEY))
    return replace(spec, key_source="the project's key", **changes)


async def test_a_right_key_opens(spoken: Spoken, server: ModelServer) -> None:
    result = await model_probe(spec_of(spoken, server))
    assert (result.ok, result.kind, result.model_listed) == (True, None, False)
    assert len(result.models) == 1 and "does not list" in result.message
    listed = await model_probe(spec_of(spoken, server, model=result.models[0]))
    assert (listed.ok, listed.model_listed) == (True, True)
    # Nothing was asked of a model.
    assert server.requests == []


async def test_a_wrong_key_is_told_without_showing_it(spoken: Spoken, server: ModelServer) -> None:
    result = await model_probe(spec_of(spoken, server, api_key=Secret("sk-wrong-key")))
    assert (result.ok, result.kind) == (False, "auth")
    assert "the project's key" in result.message + result.next_step
    assert "sk-wrong-key" not in result.message + result.next_step


async def test_nobody_there(spoken: Spoken) -> None:
    with spoken.server(lambda request: Reply()) as gone:
        spec = spec_of(spoken, gone)
    result = await model_probe(spec)
    assert (result.ok, result.kind) == (False, "connection")
    assert spec.base_url in result.message and result.next_step


@pytest.mark.parametrize("document", [{"hello": 1}, [], {"data": "x"}, {"data": [1, {"id": 2}]}])
async def test_an_odd_listing_is_no_crash(spoken: Spoken, server: ModelServer, document: Any) -> None:
    server.wire.models = lambda: document  # type: ignore[method-assign]
    result = await model_probe(spec_of(spoken, server))
    assert result.ok is (document == {"data": [1, {"id": 2}]})
    assert result.kind in (None, "bad_response")
    json.dumps([result.message, result.next_step])


async def test_an_endpoint_without_a_listing_says_so(spoken: Spoken, server: ModelServer) -> None:
    server.wire.models_path = "/elsewhere"
    result = await model_probe(spec_of(spoken, server))
    assert (result.ok, result.kind) == (False, "not_found")
    assert "cannot be tested" in result.message


async def test_a_recording_needs_no_key() -> None:
    assert (await model_probe(ModelSpec(provider="scripted", model="demo"))).ok
