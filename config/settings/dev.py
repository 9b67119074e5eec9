"""A developer's machine: random local secrets (see ``config.bootstrap``), loopback models allowed."""

from __future__ import annotations

from .base import *  # noqa: F403
from .base import env

DEBUG = env.bool("DJANGO_DEBUG", default=True)
ARCHON_REGISTRATION = env("ARCHON_REGISTRATION", default="open")
ARCHON_MODEL_BASE_URLS = env.list(
    "ARCHON_MODEL_BASE_URLS", default=["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"]
)
