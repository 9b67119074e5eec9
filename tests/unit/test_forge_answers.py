"""Forges that answer badly, at the wire: what is made of it, and that a token goes nowhere with it."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from integrations.forges import forge_open
from integrations.forges.addresses import ForgeAddress, repository_name
from integrations.forges.errors import ForgeError
from integrations.forges.types import Kind

TOKEN = "tok-CANARY-4711"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Wire:
    """Answers each request with these pieces, and keeps what was asked."""

    def __init__(self, pieces: Iterable[bytes], pause: float) -> None:
        self._pieces, self._pause = pieces, pause
        self._ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.asked: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65_536))
                try:
                    for piece in self._pieces:
                        connection.sendall(piece)
                        if self._ended.wait(self._pause):
                            return
                except OSError:
                    continue

    def close(self) -> None:
        self._ended.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@contextmanager
def wire(pieces: Iterable[bytes], pause: float = 0.0) -> Iterator[Wire]:
    server = Wire(pieces, pause)
    try:
        yield server
    finally:
        server.close()


def refusal(server: Wire, kind: Kind = "gitlab", *, timeout: float = 5.0) -> ForgeError:
    """What looking for a pull request there comes to."""
    address = ForgeAddress(kind, f"{server.url}/in/a/folder/api/v4", "group/sub/app")
    with httpx.Client(timeout=timeout, trust_env=False) as client, pytest.raises(ForgeError) as caught:
        forge_open(address, token=TOKEN, client=client).pull_request_find(head="fix", base="main")
    assert TOKEN not in f"{caught.value} {caught.value.said} {caught.value!r}"
    return caught.value


def answer(status: str, body: bytes, *headers: str) -> list[bytes]:
    told = "".join(f"{line}\r\n" for line in (*headers, f"Content-Length: {len(body)}", "Connection: close"))
    return [f"HTTP/1.1 {status}\r\n{told}\r\n".encode() + body]


def test_an_answer_that_never_ends_is_given_up() -> None:
    """Each piece comes in time, so no limit on a piece would end it."""
    pieces = itertools.chain([HEAD + b"Content-Length: 1000000\r\n\r\n["], itertools.repeat(b" "))
    with wire(pieces, pause=0.05) as server:
        error = refusal(server, timeout=0.5)
    assert error.kind == "unreachable" and "took more than" in error.said


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([], "unreachable"),
        ([b"HTTP/1.1 200 OK\r\nContent-Len"], "unreachable"),
        ([HEAD + b"Content-Length: 100\r\n\r\n["], "unreachable"),
        ([HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"], "unreachable"),
        (answer("200 OK", b"<html>Sign in</html>"), "bad_response"),
        (answer("200 OK", b'{"message": "no list"}'), "bad_response"),
        (answer("502 Bad Gateway", b"<html><h1>502</h1></html>"), "failing"),
        (answer("503 Service Unavailable", b"", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), "failing"),
        (answer("401 Unauthorized", b'{"error":"invalid_token","error_description":"Token expired"}'), "unauthorized"),
        (answer("403 Forbidden", b'{"message":"' + TOKEN.encode() + b' may not"}'), "forbidden"),
        (answer("429 Too Many Requests", b"Retry later\n", "Retry-After: 7"), "rate_limited"),
        (answer("404 Not Found", b'{"message":"404 Project Not Found"}'), "not_found"),
    ],
)
def test_answers_of_every_kind(pieces: list[bytes], kind: str) -> None:
    with wire(pieces) as server:
        assert refusal(server).kind == kind
        [asked] = server.asked
    assert asked.startswith(b"GET /in/a/folder/api/v4/projects/group%2Fsub%2Fapp/merge_requests?state=opened")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent"])
def test_no_token_follows_to_another_host(status: str) -> None:
    with wire([]) as other, wire(answer(status, b"", f"Location: {other.url}/api/v4?{TOKEN}")) as server:
        assert refusal(server).kind == "moved"
        assert other.asked == []


@pytest.mark.parametrize(
    ("path", "over_ssh", "name"),
    [
        ("/gitlab/group/sub/app.git", False, "group/sub/app"),
        ("/gitlab/gitlab/app.git", False, "gitlab/app"),
        ("gitlab/sub/app.git", True, "gitlab/sub/app"),
        ("gitlab/app.git", True, "gitlab/app"),
        ("/gitlab/app.git", False, None),
    ],
)
def test_a_forge_in_a_folder_and_a_group_that_is_called_like_it(path: str, over_ssh: bool, name: str | None) -> None:
    api_url = "https://code.example.com/gitlab/api/v4"
    assert repository_name("gitlab", path=path, api_url=api_url, over_ssh=over_ssh) == name
