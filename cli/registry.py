"""Which project on which server stands for which local repository: ``cli-projects.json`` in ``ARCHON_HOME``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integrations.posix import fcntl

_FILE = "cli-projects.json"


class ProjectRegistry:
    """Remembers projects by server and repository path. Safe with several commands at once.

    It is a convenience: when the file is lost or unreadable, the next run makes a project anew.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / _FILE

    def project_id(self, *, server: str, repository: Path | str) -> str | None:
        return self._read().get(server, {}).get(str(repository))

    def repository(self, *, server: str, project_id: str) -> Path | None:
        """Where the project's repository or folder lies on this machine."""
        for path, known in self._read().get(server, {}).items():
            # What isn't a path is an address.
            if known == project_id and path.startswith("/"):
                return Path(path)
        return None

    def remember(self, *, server: str, repository: Path | str, project_id: str) -> None:
        """``repository``: an absolute path, or an address."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            entries = self._read()
            entries.setdefault(server, {})[str(repository)] = project_id
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{_FILE}.")
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                json.dump(entries, file, indent=2)
            os.replace(temporary, self._path)

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8", errors="surrogateescape"))
        except (OSError, ValueError):
            return {}
        if not isinstance(entries, dict):
            return {}
        return {server: known for server, known in entries.items() if isinstance(known, dict)}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._path.parent / f".{_FILE}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
