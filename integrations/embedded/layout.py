"""The files by which the supervisor and its clients meet, all in ``HOME/services``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The database that belongs to Archon.
DATABASE = "archon"
#: The servers by their names; clients hold a lock for each that they use.
SERVERS = ("postgres", "valkey")


@dataclass(frozen=True)
class Layout:
    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "services"

    @property
    def lock(self) -> Path:
        """Held by the supervisor."""
        return self.folder / "lock"

    @property
    def state(self) -> Path:
        """What the supervisor says: ``{"pid", "status", "servers" | "message", "next_step"}``."""
        return self.folder / "state.json"

    @property
    def credentials(self) -> Path:
        """Passwords, and the ports of last time, by server."""
        return self.folder / "credentials.json"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def users(self, server: str) -> Path:
        """Locked by those who use the server."""
        return self.folder / f"users-{server}"
