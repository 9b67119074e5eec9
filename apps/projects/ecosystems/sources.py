"""Gathering where this host gets packages from: each ecosystem asks the host's own tools for its part."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from apps.projects.sandbox import Bind

_QUERY_SECONDS = 30
_PORTS = {"https": 443, "http": 80}


class SourceCollector:
    """What ecosystems say about where their packages come from, as it adds up."""

    def __init__(self) -> None:
        self.hosts: set[tuple[str, int]] = set()
        self.environment: dict[str, str] = {}
        self.notes: list[str] = []
        self.proxy = ""
        self._folders: dict[str, Path] = {}
        self._files: dict[str, Path] = {}

    def location(self, location: str) -> str:
        """A location as the sandbox may know it, without credentials; its host or folder is let through."""
        if "://" not in location:
            path = Path(location).expanduser()
            if path.exists():
                self._folders[str(path)] = path
            return str(path)
        parts = urlsplit(location)
        if parts.scheme == "file":
            path = Path(unquote(parts.path))
            # An index links to its files by relative addresses, which usually lead next to it.
            bound = path.parent if path.name == "simple" and len(path.parts) > 3 else path
            if bound.exists():
                self._folders[str(bound)] = bound
            return location
        if parts.username or parts.password:
            self.notes.append(f"The credentials for {parts.hostname} are not handed to the set-up.")
        if parts.hostname and parts.scheme in _PORTS:
            self.host(parts.hostname, parts.port or _PORTS[parts.scheme])
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def host(self, name: str, port: int = 443) -> None:
        """Let a host be reached."""
        self.hosts.add((name.lower(), port))

    def lend(self, source: Path, target: str) -> None:
        """Show a file or folder of this host, read-only, at a path in the set-up sandbox."""
        self._files[target] = source

    def binds(self) -> tuple[Bind, ...]:
        folders = [Bind(source=path, target=str(path)) for path in self._folders.values()]
        return (*folders, *(Bind(source=path, target=target) for target, path in self._files.items()))


def host_ask(*arguments: str) -> str:
    """What a program of this host answers, asked outside of any project; empty when it isn't there or fails."""
    program = shutil.which(arguments[0])
    if program is None:
        return ""
    try:
        answer = subprocess.run(
            [program, *arguments[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_QUERY_SECONDS,
            check=True,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return answer.stdout.strip()
