"""Fetching what somebody named, from servers on this machine."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from apps.core.outbound import AddressRefused, FetchFailed, outbound_fetch


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        places = {
            "/away": "http://[::ffff:127.0.0.1]:9/",
            "/loop": "/loop",
            "/moved": "/page",
            "/file": "file:///etc/passwd",
        }
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.end_headers()
            return
        assert "Cookie" not in self.headers and "Authorization" not in self.headers
        body = b"x" * 100_000 if self.path == "/long" else b"<p>hello</p>"
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        return


@pytest.fixture
def origin() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def anything(host: str, port: int) -> bool:
    return True


async def test_a_listed_host_answers_after_redirects(origin: str) -> None:
    page = await outbound_fetch(f"http://{origin}/moved", allowed=anything, private_hosts=[origin])
    assert (page.status, page.body, page.content_type) == (200, b"<p>hello</p>", "text/html")
    assert page.url == f"http://{origin}/page"
    assert (await outbound_fetch(f"http://{origin}/missing", allowed=anything, private_hosts=[origin])).status == 404


async def test_a_long_answer_is_cut(origin: str) -> None:
    page = await outbound_fetch(f"http://{origin}/long", allowed=anything, private_hosts=[origin], max_bytes=1000)
    assert page.truncated and len(page.body) == 1000


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "[::1]", "169.254.169.254"]
)
async def test_a_host_that_is_not_public_is_refused(origin: str, host: str) -> None:
    with pytest.raises(AddressRefused, match="not public"):
        await outbound_fetch(f"http://{host}:{origin.partition(':')[2]}/page", allowed=anything)


async def test_a_redirect_is_checked_as_the_first_address_was(origin: str) -> None:
    with pytest.raises(AddressRefused, match="not public"):
        await outbound_fetch(f"http://{origin}/away", allowed=anything, private_hosts=[origin])
    with pytest.raises(AddressRefused, match="can be fetched"):
        await outbound_fetch(f"http://{origin}/file", allowed=anything, private_hosts=[origin])
    with pytest.raises(FetchFailed, match="redirects"):
        await outbound_fetch(f"http://{origin}/loop", allowed=anything, private_hosts=[origin])


async def test_only_what_may_be_reached_is_asked_for(origin: str) -> None:
    with pytest.raises(AddressRefused, match="not a host that may be reached"):
        await outbound_fetch(f"http://{origin}/page", allowed=lambda host, port: False, private_hosts=[origin])


@pytest.mark.parametrize(
    "url", ["", "ftp://example.org/", "http://", "http://user:password@example.org/", "http://a b/", "http://a:99999/"]
)
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused, match="can be fetched"):
        await outbound_fetch(url, allowed=anything)


async def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(FetchFailed, match="can't be read"):
        await outbound_fetch("http://127.0.0.1:9/", allowed=anything, private_hosts=["127.0.0.1"])
