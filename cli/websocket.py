"""Opening one of the server's WebSockets, as every command that follows something does."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from cli.client import Api, url_is_loopback

#: Nobody is there, or a proxy knows no WebSockets.
OPEN_FAILURES = (OSError, TimeoutError, InvalidHandshake, InvalidURI, EOFError)


def websocket_address(api: Api, path: str) -> str:
    """The address of a path, which begins with a slash, beside the API's."""
    parts = urlsplit(api.base_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, f"{parts.path}{path}", "", ""))


def websocket_open(api: Api, address: str, *, max_frame: int) -> ClientConnection:
    """A connection, on which nothing was said yet; frames have at most so many bytes. Raises one of OPEN_FAILURES."""
    return connect(
        address,
        open_timeout=10,
        close_timeout=2,
        ping_interval=10,
        ping_timeout=10,
        max_size=max_frame,
        user_agent_header="archon-cli",
        proxy=None if url_is_loopback(api.base_url) else True,
    )
