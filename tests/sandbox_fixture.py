"""The fixture that runs a test on either kind of sandbox; a plugin too, for runs without a ``conftest.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings


@pytest.fixture(params=["bubblewrap", pytest.param("container", marks=pytest.mark.slow)])
def each_sandbox(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test on either kind of sandbox: one promise, kept by both."""
    from tests.sandboxing import engine_open

    settings.ARCHON_SANDBOX = request.param
    if request.param == "bubblewrap":
        yield
        return
    with engine_open(settings) as server:
        # For processes that a test starts.
        monkeypatch.setenv("ARCHON_SANDBOX", "container")
        monkeypatch.setenv("ARCHON_CONTAINER_ENGINE", server.address)
        yield
