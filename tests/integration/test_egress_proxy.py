"""The way out of a set-up sandbox leads to the listed hosts and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from apps.projects.egress import Egress, egress_open

Registry = tuple[str, int]


async def registry_serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the request line and the headers that it got."""
    head = await reader.readuntil(b"\r\n\r\n")
    body = head.replace(b"\r\n", b"|")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


async def ask(socket: Path, request: str, then: str = "") -> str:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(request.encode())
    answer = b""
    if then:
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.write(then.encode())
    answer += await reader.read()
    writer.close()
    return answer.decode()


def with_proxy(use: Callable[[Egress, Registry], Awaitable[None]], *, through_another: bool = False) -> None:
    async def run() -> None:
        server = await asyncio.start_server(registry_serve, "127.0.0.1", 0)
        registry = ("127.0.0.1", server.sockets[0].getsockname()[1])
        async with server, asyncio.timeout(20), egress_open(hosts=frozenset([registry])) as egress:
            if not through_another:
                await use(egress, registry)
                return

            # A TCP port in front of the first proxy's socket stands for the host's own proxy.
            async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                inner_reader, inner_writer = await asyncio.open_unix_connection(egress.socket)

                async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                    while chunk := await source.read(1000):
                        sink.write(chunk)
                        await sink.drain()
                    sink.close()

                await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

            host_proxy = await asyncio.start_server(forward, "127.0.0.1", 0)
            address = f"http://user:word@127.0.0.1:{host_proxy.sockets[0].getsockname()[1]}"
            async with host_proxy, egress_open(hosts=frozenset([registry]), upstream_proxy=address) as outer:
                await use(outer, registry)

    asyncio.run(run())


def test_a_listed_host_is_reached_both_ways() -> None:
    async def use(egress: Egress, registry: Registry) -> None:
        name = f"{registry[0]}:{registry[1]}"
        plain = await ask(
            egress.socket, f"GET http://{name}/simple/?a=b HTTP/1.1\r\nHost: elsewhere\r\nProxy-X: y\r\n\r\n"
        )
        assert "GET /simple/?a=b HTTP/1.1" in plain and f"Host: {name}" in plain and "elsewhere" not in plain
        assert "Proxy-X" not in plain
        tunnel = await ask(egress.socket, f"CONNECT {name} HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\n\r\n")
        assert "200 Connection established" in tunnel and "GET /x" in tunnel
        assert egress.refused == []

    with_proxy(use)


def test_the_hosts_own_proxy_is_used() -> None:
    async def use(egress: Egress, registry: Registry) -> None:
        name = f"{registry[0]}:{registry[1]}"
        tunnel = await ask(egress.socket, f"CONNECT {name} HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\n\r\n")
        assert "GET /x" in tunnel
        plain = await ask(egress.socket, f"GET http://{name}/simple/ HTTP/1.1\r\n\r\n")
        assert "GET /simple/" in plain

    with_proxy(use, through_another=True)


def test_any_other_host_or_port_is_refused_and_remembered() -> None:
    async def use(egress: Egress, registry: Registry) -> None:
        port = registry[1]
        for target in (
            f"127.0.0.1:{port + 1}",
            f"127.0.0.2:{port}",
            f"localhost:{port}",
            f"[::1]:{port}",
            "example.org:443",
        ):
            assert "403 Forbidden" in await ask(egress.socket, f"CONNECT {target} HTTP/1.1\r\n\r\n")
        answer = await ask(egress.socket, "GET http://example.org/ HTTP/1.1\r\n\r\n")
        assert "host example.org:80 is not on the list of this proxy" in answer
        again = await ask(egress.socket, "GET http://example.org/ HTTP/1.1\r\n\r\n")
        assert "403" in again
        assert egress.refused.count("example.org:80") == 1 and len(egress.refused) == 6

    with_proxy(use)


def test_what_is_no_request_is_answered_and_harms_nothing() -> None:
    async def use(egress: Egress, registry: Registry) -> None:
        for request in (
            "\x16\x03\x01 tls?\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT 127.0.0.1:99999 HTTP/1.1\r\n\r\n",
            "GET file:///etc/passwd HTTP/1.1\r\n\r\n",
        ):
            assert (await ask(egress.socket, request)).startswith(("HTTP/1.1 400", "HTTP/1.1 403"))
        assert await ask(egress.socket, "GET " + "x" * 100_000) == ""
        name = f"{registry[0]}:{registry[1]}"
        assert "200 OK" in await ask(egress.socket, f"GET http://{name}/ HTTP/1.1\r\n\r\n")

    with_proxy(use)


def test_the_socket_goes_with_the_proxy() -> None:
    kept: list[Path] = []

    async def use(egress: Egress, registry: Registry) -> None:
        kept.append(egress.socket)
        assert egress.socket.exists()

    with_proxy(use)
    assert not kept[0].parent.exists()
