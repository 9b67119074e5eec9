"""Fault tests share one running stack where they don't harm it."""

from __future__ import annotations

from tests.fixtures import stack

__all__ = ["stack"]
