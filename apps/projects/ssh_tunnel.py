"""The way that ssh takes to a host: through the proxy that has checked its address. Run by ssh as ``ProxyCommand``.

    python -I ssh_tunnel.py SOCKET HOST PORT

Stands alone: it is run by path, with the standard library and nothing of the house.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys

_CHUNK = 1 << 16
_HEAD_BYTES = 8192


def main(path: str, host: str, port: str) -> int:
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(path)
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    channel.sendall(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = channel.recv(_CHUNK)
        head += piece
        if not piece or len(head) > _HEAD_BYTES:
            break
    head, _, rest = head.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        sys.stderr.write(f"proxy: {rest.decode('utf-8', 'replace').strip() or 'no connection'}\n")
        return 1
    _write(1, rest)
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == 0:
                    outgoing = os.read(0, _CHUNK)
                    if outgoing:
                        channel.sendall(outgoing)
                    else:
                        selector.unregister(0)
                        channel.shutdown(socket.SHUT_WR)
                else:
                    incoming = channel.recv(_CHUNK)
                    if not incoming:
                        return 0
                    _write(1, incoming)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:4]))
    except OSError as failure:
        sys.exit(f"proxy: {failure}")
