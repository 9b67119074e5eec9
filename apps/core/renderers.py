"""Answers that are text, where a view offers them beside JSON; problems stay JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer


class TextRenderer(BaseRenderer):
    media_type = "text/plain"
    format = "txt"
    charset = "utf-8"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        if isinstance(data, str):
            return data.encode("utf-8", "replace")
        rendered: bytes = JSONRenderer().render(data, "application/json", renderer_context)
        return rendered


class MarkdownRenderer(TextRenderer):
    media_type = "text/markdown"
    format = "md"
