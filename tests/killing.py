"""The other end of the product's kill points: hears of each process that comes to one, and decides over it."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arrival:
    """A process that stands at a kill point until it is answered; ``visit`` counts the session's visits to it."""

    point: str
    pid: int
    session: str
    visit: int


#: Called in a thread of its own for each arrival; once it returns, the process goes on, if it lives.
Decide = Callable[[Arrival], object]


class KillPoints:
    """Listens on a socket that ``ARCHON_KILL_POINTS`` is to name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decide: Decide = lambda arrival: None
        self.visits: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        owner = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline()
                if not line:
                    return
                owner.decide(owner._arrival(json.loads(line)))
                # Whoever was killed doesn't hear it.
                with contextlib.suppress(OSError):
                    self.wfile.write(b"\n")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 512

        self._server = Server(str(path), Handler)
        os.chmod(path, 0o777)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def visits_of(self, session: str) -> dict[str, int]:
        """How often the session was at each point."""
        with self._lock:
            return {point: count for (known, point), count in self.visits.items() if known == session}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _arrival(self, told: dict[str, str]) -> Arrival:
        key = (told["session"], told["point"])
        with self._lock:
            self.visits[key] += 1
            return Arrival(told["point"], int(told["pid"]), told["session"], self.visits[key])


@contextmanager
def kill_points_open() -> Iterator[KillPoints]:
    with tempfile.TemporaryDirectory(prefix="archon-kill-") as folder:
        os.chmod(folder, 0o755)
        points = KillPoints(Path(folder) / "points")
        try:
            yield points
        finally:
            points.close()
