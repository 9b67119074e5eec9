"""How an engine that sees another file system than Archon finds what containers are to be shown.

Archon in a container of its own asks the engine beside it for more containers: the engine then looks for sources on its
own host, or in a named volume. ``ARCHON_CONTAINER_PATHS`` says where; without it, both see the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.projects.sandbox.container_errors import PathUnknown
from apps.projects.sandbox.rootfs import Bind

_VOLUME = "volume:"


@dataclass(frozen=True)
class Mount:
    """One source as the engine knows it: a path of its host's, or one within a named volume."""

    source: str
    target: str
    writable: bool
    volume: str = ""

    def body(self) -> dict[str, Any]:
        """As the engine's API spells it."""
        mount: dict[str, Any] = {"Target": self.target, "ReadOnly": not self.writable}
        if self.volume:
            options: dict[str, Any] = {"NoCopy": True}
            if self.source:
                options["Subpath"] = self.source
            return {**mount, "Type": "volume", "Source": self.volume, "VolumeOptions": options}
        # Of type bind, not "Binds": a source that isn't there is refused rather than made.
        return {**mount, "Type": "bind", "Source": self.source, "BindOptions": {"Propagation": "rprivate"}}


class EnginePaths:
    """The mapping of ``ARCHON_CONTAINER_PATHS``, and a folder for what lies outside of it."""

    def __init__(self, mapping: Mapping[str, str], *, lending: Path) -> None:
        """``lending``: a folder of ours that the engine can see; files from elsewhere are copied there to be shown."""
        pairs = [(Path(os.path.realpath(here)), there) for here, there in mapping.items()]
        self._pairs = sorted(pairs, key=lambda pair: len(pair[0].parts), reverse=True)
        self._lending = lending

    def mount(self, bind: Bind) -> Mount:
        """Where the engine finds this; PathUnknown for a folder that it can't see."""
        source = Path(os.path.realpath(bind.source))
        found = self._mapped(source, bind)
        if found is not None:
            return found
        if source.is_file() and not bind.writable:
            return self.mount(Bind(self.lent(source), bind.target))
        raise PathUnknown(
            f"{bind.source} has to be shown at {bind.target}, and ARCHON_CONTAINER_PATHS doesn't say where the "
            "container engine finds it",
            next_step=f"Add {bind.source}=/its/place/on/the/engine's/host to ARCHON_CONTAINER_PATHS.",
        )

    def sees(self, path: Path) -> bool:
        """Whether the engine finds this path by itself, as a file of its host's."""
        found = self._mapped(Path(os.path.realpath(path)), Bind(path, "/"))
        return found is not None and not found.volume

    def lent(self, source: Path) -> Path:
        """A copy that every container may read, by its content."""
        content = source.read_bytes()
        executable = os.access(source, os.X_OK)
        return self.lend(content, name=source.name, executable=executable)

    def lend(self, content: bytes, *, name: str, executable: bool = False) -> Path:
        """The same for what isn't in a file yet."""
        folder = self._lending / hashlib.sha256(content).hexdigest()[:32]
        path = folder / name
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            for place in (self._lending, folder):
                place.chmod(0o755)
            # Several threads of a process may lend the same at once.
            draft = folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
            draft.write_bytes(content)
            draft.chmod(0o755 if executable else 0o644)
            shutil.move(draft, path)
        return path

    def _mapped(self, source: Path, bind: Bind) -> Mount | None:
        if not self._pairs:
            return Mount(str(source), bind.target, bind.writable)
        for here, there in self._pairs:
            if source == here or source.is_relative_to(here):
                below = source.relative_to(here).as_posix()
                below = "" if below == "." else below
                if there.startswith(_VOLUME):
                    return Mount(below, bind.target, bind.writable, volume=there.removeprefix(_VOLUME))
                return Mount(f"{there.rstrip('/')}/{below}".rstrip("/") or "/", bind.target, bind.writable)
        return None
