"""What leads from a sandbox's loopback to the proxy on the host: bytes, both ways, through a unix socket.

Runs inside the sandbox beside ``exec_server``, with as little: ``forwarder.py DESCRIPTOR PATH``, the descriptor being
a listening socket that is there before any command runs. It guards nothing; the proxy at the other end does.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
from typing import NoReturn

CHUNK = 65536


def forward(client: socket.socket, path: str) -> None:
    """Until both sides have ended."""
    with client, socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(path)
            open_ends = {client: server, server: client}
            while open_ends:
                for source in select.select(list(open_ends), [], [])[0]:
                    data = source.recv(CHUNK)
                    if data:
                        open_ends[source].sendall(data)
                    else:
                        open_ends.pop(source).shutdown(socket.SHUT_WR)
        except OSError:
            return


def main() -> NoReturn:
    listener = socket.socket(fileno=int(sys.argv[1]))
    while True:
        client, _ = listener.accept()
        threading.Thread(target=forward, args=(client, sys.argv[2]), daemon=True).start()


if __name__ == "__main__":
    main()
