"""Run the API on a socket that the caller has bound: ``python -m config.serve FD``.

``./archon up`` keeps the socket, so that a port in use shows before anything starts, and a restart of the API refuses
no client.
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
    listener = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(
        "config.asgi:application",
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
