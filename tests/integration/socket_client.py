"""A client of the WebSockets, in the test's own process."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator

from apps.chat.routing import websocket_urlpatterns

APPLICATION = URLRouter(websocket_urlpatterns)


class Watcher:
    """A client's end of a socket."""

    def __init__(self, path: str, *, origin: str | None = None) -> None:
        headers = [(b"host", b"archon.test")] + ([(b"origin", origin.encode())] if origin else [])
        self._communicator = WebsocketCommunicator(APPLICATION, path, headers=headers)

    async def __aenter__(self) -> Watcher:
        connected, _ = await self._communicator.connect(timeout=30)
        assert connected
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._communicator.disconnect(timeout=30)

    async def send(self, frame: Any) -> None:
        await self._communicator.send_json_to(frame)

    async def send_text(self, text: str) -> None:
        await self._communicator.send_to(text_data=text)

    async def frame(self) -> dict[str, Any]:
        frame: dict[str, Any] = await self._communicator.receive_json_from(timeout=30)
        return frame

    async def frames_until(self, kind: str) -> list[dict[str, Any]]:
        """Frames up to the first of this kind, that one included."""
        frames = [await self.frame()]
        while frames[-1]["type"] != kind:
            frames.append(await self.frame())
        return frames

    async def closed(self) -> int:
        """The code that the server closes with; frames before it are passed over."""
        while True:
            output = await self._communicator.receive_output(timeout=30)
            if output["type"] == "websocket.close":
                return int(output["code"])
