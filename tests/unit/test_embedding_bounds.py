"""Embedding without a database: processes beside many sockets, answers that are paid for, names that change hands."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apps.core.database import AsyncDatabase
from apps.vector_store.embedders import LOCAL_MODELS, EmbedderChoice, is_of
from integrations.embedders.endpoint import EmbedEndpoint
from integrations.embedders.errors import EmbedError
from integrations.embedders.processes import ProcessPool
from integrations.llm_providers.types import ModelSpec, Secret

#: Answers every request with one vector of two numbers.
_PROGRAM = """
import struct, sys
out, source = sys.stdout.buffer, sys.stdin.buffer
out.write(b"R" + struct.pack("<I", 0)); out.flush()
while len(head := source.read(4)) == 4:
    source.read(struct.unpack("<I", head)[0])
    out.write(b"V" + struct.pack("<I", 8) + struct.pack("<ff", 1.0, 0.0)); out.flush()
"""


def pool_of(program: Path) -> ProcessPool:
    return ProcessPool(program=program, arguments=(), dimension=2, max_characters=100, size=1, idle_s=60.0)


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """As in a server with a thousand WebSockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1_100)]
    yield
    for descriptor in opened:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_processes_embed_in_a_server_with_many_sockets(many_open_files: None, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    pool = pool_of(program)
    try:
        assert pool.embed(["x"]).tolist() == [[1.0, 0.0]]
    finally:
        pool.close()


def test_a_process_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("integrations.embedders.processes.subprocess.Popen", refuse)
    pool = pool_of(tmp_path / "program.py")
    for _ in range(2):
        with pytest.raises(EmbedError, match="could be started") as caught:
            pool.embed(["x"])
        assert (caught.value.kind, caught.value.retryable) == ("crashed", True)
    pool.close()


@pytest.mark.parametrize(
    ("content", "charged"),
    [
        (b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}', True),
        (b'{"data": []}', True),
        (b'{"data": [{"index": 0, "embedding": [0, 0]}]}', True),
        (b"{", False),
        (b'{"error": {"message": "no", "code": 429}}', False),
    ],
)
def test_an_answer_that_is_of_no_use_is_paid_for_nevertheless(content: bytes, charged: bool) -> None:
    @asynccontextmanager
    async def stream(*arguments: Any, **more: Any) -> AsyncIterator[Any]:
        async def parts() -> AsyncIterator[bytes]:
            yield content

        yield SimpleNamespace(status_code=200, headers={}, aiter_bytes=parts)

    async def ask() -> None:
        spec = ModelSpec(provider="openai", model="m", base_url="http://127.0.0.1:1/v1", api_key=Secret("k" * 9))
        endpoint = EmbedEndpoint(spec, timeout_s=1.0)
        endpoint._http.stream = stream  # type: ignore[method-assign]
        await endpoint.embed(["one"], kind="document", dimension=2)

    with pytest.raises(EmbedError) as caught:
        asyncio.run(ask())
    assert caught.value.charged is charged


def test_another_address_of_the_vendor_is_another_embedder(settings: Any) -> None:
    settings.OPENAI_BASE_URL = ""
    choice = EmbedderChoice("openai:m")
    assert is_of(choice, "openai:m:api:1536")
    assert is_of(EmbedderChoice("openai:m@https://api.openai.com/v1"), "openai:m:api:1536")
    settings.OPENAI_BASE_URL = "https://elsewhere.example/v1"
    assert not is_of(choice, "openai:m:api:1536")
    settings.OPENAI_BASE_URL = "not an address"
    assert not is_of(choice, "openai:m:api:1536")


def test_another_version_of_a_model_on_this_machine_is_another_embedder() -> None:
    model = LOCAL_MODELS["minilm"]
    assert is_of(EmbedderChoice("minilm"), model.key)
    assert not is_of(EmbedderChoice("minilm"), f"local:{model.model}:0:{model.dimension}")


def test_what_takes_long_does_not_hold_up_the_rest() -> None:
    async def both() -> str:
        database, over = AsyncDatabase(max_threads=1), threading.Event()
        slow = asyncio.ensure_future(database.run_in_slow_thread(over.wait, 30))
        try:
            return await asyncio.wait_for(database.run_in_thread(lambda: "at once"), 5)
        finally:
            over.set()
            await slow
            await database.close()

    assert asyncio.run(both()) == "at once"
