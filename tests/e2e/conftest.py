"""End-to-end tests share one running stack where they can."""

from __future__ import annotations

from tests.fixtures import stack

__all__ = ["stack"]
