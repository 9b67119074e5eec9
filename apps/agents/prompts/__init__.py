"""The agents' instructions, one file a role; the first line names the role."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@cache
def prompt_read(role: str) -> str:
    """The system prompt of a role; the same text at every call, so that providers' prompt caches hit."""
    return (_FOLDER / f"{role}.md").read_text("utf-8").strip()
