"""Fixtures of a running stack; imported by the ``conftest.py`` of the tests that use it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.stacks import LiveStack, home_open, stack_open

#: Where packages come from on this machine, if its user says so by variables: set-ups of real packages need them.
_PACKAGE_VARIABLES = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(scope="session")
def stack() -> Iterator[LiveStack]:
    """A stack that many tests share: none of them may harm it."""
    packages = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PACKAGE_VARIABLES) or name.lower() in _PROXY_VARIABLES
    }
    with home_open() as home, stack_open(home, **packages) as running:
        yield running
