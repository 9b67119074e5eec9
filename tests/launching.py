"""Running the command line as a user does: another process, another home, nothing of the tests' own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")


def environment(home: Path, **more: str) -> dict[str, str]:
    """The variables of a fresh shell, and ``ARCHON_HOME``.

    Nothing is reviewed unless a test asks for it: most models of tests have no reviewer's part.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "ARCHON_HOME": str(home), "ARCHON_REVIEW": "never", "PYTHONUNBUFFERED": "1", **more}


def archon_spawn(home: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start a command in a session of its own, as a terminal would; its standard error comes with its output."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def archon_run(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
