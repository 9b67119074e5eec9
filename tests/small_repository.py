"""The smallest work that there is: one wrong number, a check that sees it, and a model to mend it.

Fixtures, for tests to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import repository_build
from tests.loopback.agents import Agents, call
from tests.loopback.openai_server import OpenAIServer

CHECK = "grep -q 42 answer.txt"
MEND = call("edit_file", path="answer.txt", old_text="41", new_text="42")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return repository_build(tmp_path / "small", {"answer.txt": "The answer is 41.\n"})


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """A model whose ``answer`` each test sets; it never got a request that the real API would refuse."""
    with OpenAIServer(Agents()) as running:
        yield running
        assert running.refused == []
