"""Run the API: ``python -m config.serve HOST:PORT``, or ``FD`` for a socket that the caller has bound.

``./archon up`` keeps the socket, so that a port in use shows before anything starts, and a restart of the API refuses
no client. Behind a proxy, ``FORWARDED_ALLOW_IPS`` names the addresses whose ``X-Forwarded-For`` is believed.
"""

from __future__ import annotations

import socket
import sys

import uvicorn

from config.bootstrap import prepare

#: After this, connections that are still open (WebSockets) are closed; their clients resume where they were.
SHUTDOWN_SECONDS = 5


def main() -> None:
    prepare()
    host, separator, port = sys.argv[1].rpartition(":")
    sockets = [] if separator else [socket.socket(fileno=int(port))]
    config = uvicorn.Config(
        "config.asgi:application",
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        host=host.strip("[]") or "0.0.0.0",
        port=int(port) if separator else 0,
    )
    uvicorn.Server(config).run(sockets=sockets or None)


if __name__ == "__main__":
    main()
