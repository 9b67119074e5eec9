"""The one way out of a set-up sandbox, and of git to other hosts: a proxy that reaches what is on its list alone.

It listens on a unix socket, which the sandbox forwards to, and understands ``CONNECT`` and plain ``http`` requests. A
name is resolved once and that address is connected to. What it refuses it remembers, so that an error can say so.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from apps.core.errors import ApplicationError
from apps.core.outbound import HostAllowed, address_resolve

_HEADER_BYTES = 32 * 1024
_CONNECT_SECONDS = 30
_IDLE_SECONDS = 180
_CONNECTIONS = 128
#: Headers that concern one hop only.
_HOP_HEADERS = (b"proxy-", b"connection:", b"keep-alive:")

Host = tuple[str, int]


class _Refused(Exception):
    """A request that is not let through; the status line and the reason go to the client."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass
class Egress:
    """A running proxy."""

    socket: Path
    #: `host:port` of what was asked for and isn't on the list, in order, once each.
    refused: list[str] = field(default_factory=list)
    #: On 127.0.0.1, for programs that know no proxy on a socket; 0: there is none.
    port: int = 0


@contextlib.asynccontextmanager
async def egress_open(
    *,
    hosts: frozenset[Host] = frozenset(),
    upstream_proxy: str = "",
    addresses: Mapping[Host, tuple[str, ...]] | None = None,
    allowed: HostAllowed | None = None,
    private_hosts: Collection[str] = (),
    with_port: bool = False,
) -> AsyncIterator[Egress]:
    """Let ``hosts`` be reached through a socket for as long as the context lasts, and ``with_port`` through a port.

    With ``addresses`` a connection goes to those of its host that somebody has checked, and no name is resolved here.
    ``allowed``, for hosts that a user named, decides in the place of ``hosts``; an address that isn't public is refused
    then, unless its host is one of ``private_hosts``.
    """
    # Directly under the temporary folder: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="archon-egress-") as folder:
        os.chmod(folder, 0o711)
        egress = Egress(Path(folder) / "proxy")
        proxy = _Proxy(egress, hosts, upstream_proxy, addresses, allowed, private_hosts)
        server = await asyncio.start_unix_server(proxy.serve, path=egress.socket, limit=_HEADER_BYTES)
        servers = [server]
        if with_port:
            on_port = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=_HEADER_BYTES)
            servers.append(on_port)
            egress.port = on_port.sockets[0].getsockname()[1]
        # The sandbox's user is another one than ours; the folder's name is what keeps others out.
        egress.socket.chmod(0o666)
        try:
            yield egress
        finally:
            for server in servers:
                server.close()
            proxy.stop()
            for server in servers:
                await server.wait_closed()


class _Proxy:
    def __init__(
        self,
        egress: Egress,
        hosts: frozenset[Host],
        upstream_proxy: str,
        addresses: Mapping[Host, tuple[str, ...]] | None,
        allowed: HostAllowed | None,
        private_hosts: Collection[str],
    ) -> None:
        self._egress = egress
        self._allowed = allowed
        self._private_hosts = private_hosts
        self._hosts = hosts
        self._addresses = addresses
        self._upstream = urlsplit(upstream_proxy if "://" in upstream_proxy else f"http://{upstream_proxy}")
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except _Refused as refusal:
            body = f"{refusal.reason}\n".encode()
            head = f"HTTP/1.1 {refusal.status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            with contextlib.suppress(OSError):
                writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # The client or the registry went away; each side notices by the connection ending.
            return
        except asyncio.CancelledError:
            # Only stop() cancels: the set-up is over.
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) > _CONNECTIONS:
            raise _Refused("503 Service Unavailable", "too many connections at a time")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _CONNECT_SECONDS)
        request, *headers = head[:-4].split(b"\r\n")
        try:
            method, target, version = request.decode("ascii").split(" ")
            if method == "CONNECT":
                parts = urlsplit(f"//{target}")
                host, port = parts.hostname or "", parts.port or 443
            else:
                parts = urlsplit(target)
                host, port = parts.hostname or "", parts.port or 80
                if parts.scheme != "http" or not version.startswith("HTTP/1"):
                    raise ValueError(target)
        except ValueError as error:
            raise _Refused("400 Bad Request", "not a proxy request") from error
        self._check(host, port)
        if method == "CONNECT":
            remote_reader, remote_writer = await self._tunnel(host, port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            remote_reader, remote_writer = await self._connect(host, port)
            path = (
                target if self._upstream.hostname else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            )
            kept = [header for header in headers if not header.lower().startswith((*_HOP_HEADERS, b"host:"))]
            # One request a connection: the next one might name another host.
            lines = [
                f"{method} {path} {version}".encode(),
                f"Host: {parts.netloc}".encode(),
                *kept,
                b"Connection: close",
            ]
            if self._upstream.hostname:
                lines += self._credentials()
            remote_writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        try:
            await _exchange(reader, writer, remote_reader, remote_writer)
        finally:
            remote_writer.close()

    def _check(self, host: str, port: int) -> None:
        listed = (host.lower().rstrip("."), port) in self._hosts
        if self._allowed(host, port) if self._allowed is not None else listed:
            return
        name = self._refuse(host, port)
        raise _Refused("403 Forbidden", f"host {name} is not on the list of this proxy")

    def _refuse(self, host: str, port: int) -> str:
        """Remember what was refused; its name."""
        name = f"{host}:{port}"[:300]
        if name not in self._egress.refused and len(self._egress.refused) < 100:
            self._egress.refused.append(name)
        return name

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._upstream.hostname:
            host, port = self._upstream.hostname, self._upstream.port or 3128
        try:
            failure: OSError = OSError("no address")
            for address in (await self._resolve(host, port))[:4]:
                try:
                    return await asyncio.wait_for(asyncio.open_connection(address, port), _CONNECT_SECONDS)
                except OSError as error:
                    failure = error
            raise failure
        except OSError as error:
            raise _Refused("502 Bad Gateway", f"{host}:{port} can't be reached: {error}") from error

    async def _resolve(self, host: str, port: int) -> tuple[str, ...]:
        if self._addresses is not None:
            return self._addresses.get((host.lower().rstrip("."), port), ())
        if self._allowed is not None:
            try:
                return await address_resolve(host, port, private_hosts=self._private_hosts)
            except ApplicationError as error:
                self._refuse(host, port)
                raise _Refused("403 Forbidden", error.message) from error
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
        return tuple(str(address[0]) for _, _, _, _, address in found)

    async def _tunnel(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._connect(host, port)
        if self._upstream.hostname:
            lines = [f"CONNECT {host}:{port} HTTP/1.1".encode(), f"Host: {host}:{port}".encode(), *self._credentials()]
            writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
            reply = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _CONNECT_SECONDS)
            if reply.split(b" ", 2)[1:2] != [b"200"]:
                writer.close()
                raise _Refused("502 Bad Gateway", f"this host's own proxy refused {host}:{port}")
        return reader, writer

    def _credentials(self) -> list[bytes]:
        if not self._upstream.username:
            return []
        pair = f"{self._upstream.username}:{self._upstream.password or ''}".encode()
        return [b"Proxy-Authorization: Basic " + base64.b64encode(pair)]


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    remote_reader: asyncio.StreamReader,
    remote_writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes both ways until the far side is done, or nothing moves for a while."""

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await asyncio.wait_for(source.read(1 << 16), _IDLE_SECONDS):
            sink.write(chunk)
            await sink.drain()
        if sink.can_write_eof():
            with contextlib.suppress(OSError):
                sink.write_eof()

    sending = asyncio.create_task(carry(reader, remote_writer))
    try:
        await carry(remote_reader, writer)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
