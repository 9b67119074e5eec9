"""A body over its limit is cut off before the application has it, whatever its header says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from apps.core.body_limit import BodyLimit, Message, Receive, Scope, Send


class _Application:
    """Reads the body whole, as Django does, and answers 200."""

    def __init__(self) -> None:
        self.body: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.body = body
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def _ask(chunks: Sequence[bytes], *, headers: dict[str, str], large: int | None = None) -> tuple[int, bytes, Any]:
    application = _Application()
    sent: list[Message] = []
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": position < len(chunks) - 1}
        for position, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async def limit_for(scope: Scope) -> int | None:
        return large

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(BodyLimit(application, limit=10, limit_for=limit_for)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], application.body


def test_small_body_passes_whole() -> None:
    assert _ask([b"12345", b"67890"], headers={"content-length": "10"}) == (200, b"", b"1234567890")


@pytest.mark.parametrize(
    ("chunks", "headers"),
    [
        ([b"x" * 11], {"content-length": "11"}),
        ([b"x" * 6, b"x" * 6], {"content-length": "1"}),
        ([b"x" * 6, b"x" * 6], {"transfer-encoding": "chunked"}),
        ([b"x" * 6, b"x" * 6], {"content-length": "nonsense"}),
    ],
    ids=["declared", "lying", "chunked", "nonsense"],
)
def test_large_body_is_refused(chunks: list[bytes], headers: dict[str, str]) -> None:
    status, body, reached = _ask(chunks, headers=headers)
    assert (status, json.loads(body)["code"], reached) == (413, "too_large", None)


def test_request_that_may_be_larger_has_a_limit_too() -> None:
    assert _ask([b"x" * 20], headers={"content-length": "20"}, large=20)[0] == 200
    assert _ask([b"x" * 21], headers={"content-length": "20"}, large=20)[0] == 413
