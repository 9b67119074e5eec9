"""Fixtures of the loopback servers; imported by the ``conftest.py`` of the tests that use them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .openai_server import OpenAIServer, Reply


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    """A server of the OpenAI chat protocol; set ``openai_server.answer`` to what it should say."""
    with OpenAIServer(lambda request: Reply(text="Done.")) as server:
        yield server
