"""Replies that a vendor's filter, or the model itself, keeps back: in each protocol they have a word of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .types import CallFailure, ModelSpec

_REASONS = {"content_filter", "refusal", "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"}


def refusal_reason(endings: Iterable[Mapping[str, Any]]) -> str:
    """The vendor's word for keeping the reply back, by what it says of its parts; empty: it did not."""
    for said in endings:
        incomplete, feedback = said.get("incomplete_details") or {}, said.get("prompt_feedback") or {}
        for reason in (said.get("finish_reason"), said.get("stop_reason"), incomplete.get("reason")):
            if reason in _REASONS:
                return str(reason)
        if blocked := feedback.get("block_reason"):
            return str(getattr(blocked, "value", blocked))
    return ""


def refused_failure(spec: ModelSpec, reason: str) -> CallFailure:
    """Of a reply without a word or a call in it, for such a reason. It may come out otherwise the next time."""
    return CallFailure(
        kind="refused",
        message=f"{spec.name} at {spec.base_url} keeps its reply back: {reason}",
        next_step="Choose another model, or start a session with the goal in other words.",
        retryable=True,
        charged=True,
    )
