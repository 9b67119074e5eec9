"""WebSocket addresses."""

from __future__ import annotations

from typing import Any

from django.urls import path, re_path

from apps.chat.consumers import AgentConsumer
from apps.chat.index_consumer import IndexConsumer
from apps.chat.sockets import UnknownAddressConsumer

websocket_urlpatterns: list[Any] = [
    path("ws/agent/<uuid:session_id>/", AgentConsumer.as_asgi()),
    path("ws/index/<uuid:project_id>/", IndexConsumer.as_asgi()),
    re_path(r"^", UnknownAddressConsumer.as_asgi()),
]
