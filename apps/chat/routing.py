"""WebSocket addresses."""

from __future__ import annotations

from typing import Any

from django.urls import path, re_path

from apps.chat.consumers import AgentConsumer, UnknownAddressConsumer

websocket_urlpatterns: list[Any] = [
    path("ws/agent/<uuid:session_id>/", AgentConsumer.as_asgi()),
    re_path(r"^", UnknownAddressConsumer.as_asgi()),
]
