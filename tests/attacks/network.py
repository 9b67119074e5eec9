"""Reaching the host's sockets: each listens here, and tells what came."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.attacks.attempt import Attempt, Outcome, Stage, inside, outside, shown
from tests.attacks.payloads import CONNECT, KERNEL


@dataclass
class Listener:
    """What the host received."""

    received: list[bytes] = field(default_factory=list)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received.append(await reader.read(10))
        writer.close()

    async def counted(self) -> int:
        await asyncio.sleep(0.1)
        return len(self.received)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._listener.received.append(data)


async def _try(
    stage: Stage, listener: Listener, target: Sequence[str], *, then: Sequence[Sequence[str]] = ()
) -> Outcome:
    """The host hears nothing of what is sent from inside, and hears it from outside."""
    async with stage.sandbox() as workspace:
        said = [await inside(workspace, CONNECT, *each) for each in (target, *then)]
    from_inside = await listener.counted()
    control = await outside(CONNECT, *target)
    from_outside = await listener.counted() - from_inside
    # A datagram to a loopback of one's own is sent, to nobody.
    refused = all(words.startswith("denied") for words in said) or target[0] == "udp"
    return Outcome(
        from_inside == 0 and refused,
        from_outside > 0,
        f"the host heard {from_inside} times from inside ({shown('; '.join(said))}), {from_outside} from outside "
        f"({control})",
    )


@asynccontextmanager
async def _on_loopback(listener: Listener) -> AsyncIterator[str]:
    """A server on every loopback address, IPv6's included where the host has it; its port."""
    if socket.has_ipv6:
        sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        sock = socket.create_server(("0.0.0.0", 0))
    server = await asyncio.start_server(listener.stream, sock=sock)
    try:
        yield str(sock.getsockname()[1])
    finally:
        server.close()


async def tcp(stage: Stage, *, host: str) -> Outcome:
    listener = Listener()
    async with _on_loopback(listener) as port:
        return await _try(stage, listener, ("tcp", host or socket.gethostbyname(socket.gethostname()), port))


async def udp(stage: Stage) -> Outcome:
    listener = Listener()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(listener), local_addr=("127.0.0.1", 0)
    )
    try:
        port = str(transport.get_extra_info("sockname")[1])
        return await _try(stage, listener, ("udp", "127.0.0.1", port))
    finally:
        transport.close()


async def unix(stage: Stage, *, name: str) -> Outcome:
    """``name`` begins with @ for an abstract one; else a path, such as is the same inside if /tmp were the host's."""
    listener = Listener()
    address = f"{name}-{secrets.token_hex(4)}"
    server = await asyncio.start_unix_server(listener.stream, address.replace("@", "\0"))
    try:
        if not address.startswith("@"):
            Path(address).chmod(0o777)
        return await _try(stage, listener, ("unix", address))
    finally:
        server.close()
        with suppress(FileNotFoundError):
            Path(address).unlink()


async def unix_in_worktree(stage: Stage) -> Outcome:
    """A socket of the host's that a link in the worktree leads to."""
    listener = Listener()
    path = stage.folder / "socket"
    server = await asyncio.start_unix_server(listener.stream, path)
    path.chmod(0o777)
    link = stage.worktree() / "link"
    link.symlink_to(path)
    try:
        async with stage.sandbox() as workspace:
            said = await inside(workspace, CONNECT, "unix", "/workspace/link")
        from_inside = await listener.counted()
        control = await outside(CONNECT, "unix", str(link))
        from_outside = await listener.counted() - from_inside
    finally:
        server.close()
    return Outcome(
        from_inside == 0, from_outside > 0, f"the host heard {from_inside} times from inside ({shown(said)}), {control}"
    )


async def vsock(stage: Stage) -> Outcome:
    """A socket to the machine's hypervisor: none can be had at all."""
    async with stage.sandbox() as workspace:
        said = [await inside(workspace, KERNEL, "vsock"), await inside(workspace, CONNECT, "vsock")]
    control = await outside(KERNEL, "vsock")
    blocked = all(words.startswith("denied") for words in said)
    return Outcome(
        blocked, control == "done", f"a listening socket: inside {shown('; '.join(said))}; outside {control}"
    )


ATTEMPTS: dict[str, Attempt] = {
    "TCP to the host's loopback": partial(tcp, host="127.0.0.1"),
    "TCP to the host's IPv6 loopback": partial(tcp, host="::1"),
    "TCP to the host's loopback, mapped into IPv6": partial(tcp, host="::ffff:127.0.0.1"),
    "TCP to the host's own address": partial(tcp, host=""),
    "UDP to the host's loopback": udp,
    "abstract unix socket": partial(unix, name="@archon-attack"),
    "pathname unix socket": partial(unix, name="/tmp/archon-attack"),
    "pathname unix socket through a link": unix_in_worktree,
    "vsock": vsock,
}
