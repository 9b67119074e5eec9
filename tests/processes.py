"""Looking at the processes of a home, and ending them, from outside of what is tested."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from integrations.embedded.layout import Layout
from integrations.embedded.presence import owner_pid

_PATIENCE_SECONDS = 60.0


def processes_of(home: Path) -> dict[int, str]:
    """Every living process that has this home in its command line, its environment or as its working folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            environment = (entry / "environ").read_bytes().decode(errors="replace")
            folder = os.readlink(entry / "cwd")
        except OSError:
            continue
        if command and (str(home) in command or f"ARCHON_HOME={home}\0" in environment or folder.startswith(str(home))):
            found[int(entry.name)] = command
    return found


def wait_until(condition: Callable[[], object], *, seconds: float = _PATIENCE_SECONDS) -> bool:
    """Poll until it holds; false when it still doesn't after so long that it never will."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def services_kill(home: Path) -> None:
    """End the embedded services of the home, whoever uses them."""
    if (pid := owner_pid(Layout(home).lock)) is not None:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: owner_pid(Layout(home).lock) != pid)
