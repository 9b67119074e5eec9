"""Real packages for tests: source archives at a pinned version and hash, as git repositories with a bug planted."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders import git, repository_build
from tests.launching import ROOT

#: Outside of the repository, and kept: each archive is fetched once.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archon-tests"


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    sha256: str
    #: A file of it, what stands there, and the bug that takes its place.
    path: str
    good: str
    bad: str

    def released(self, folder: Path) -> Path:
        """A repository with a commit of the package as it was released."""
        with tarfile.open(self._archive()) as archive:
            archive.extractall(folder, filter="data")
        [root] = folder.iterdir()
        git(root, "init", "--quiet", "--initial-branch", "main")
        git(root, "add", "--all", "--force")
        git(root, "commit", "--quiet", "--message", f"{self.name} {self.version}")
        return root

    def checkout(self, folder: Path) -> Path:
        """The same, and a commit that brings the bug."""
        root = self.released(folder)
        source = root / self.path
        text = source.read_text()
        assert text.count(self.good) == 1, f"{self.path} is not as expected"
        source.write_text(text.replace(self.good, self.bad))
        git(root, "commit", "--quiet", "--all", "--message", "Simplify")
        return root

    def _archive(self) -> Path:
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if found := self._cached():
                return found
            lines = CACHE / f"{self.name}.txt"
            lines.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
            command += ["--require-hashes", "--dest", str(CACHE), "-r", str(lines)]
            fetched = subprocess.run(command, capture_output=True, text=True, check=False)
            found = self._cached()
            if found is None:
                pytest.fail(f"pip could not fetch {self.name} {self.version}:\n{fetched.stderr[-2000:]}")
            return found

    def _cached(self) -> Path | None:
        stem = f"{self.name}-{self.version}".replace("-", "_")
        return next((path for path in CACHE.glob("*.tar.gz") if path.name.replace("-", "_").startswith(stem)), None)


@dataclass(frozen=True)
class Sample:
    """The demo's sample, which has a bug as it is and needs nothing installed."""

    path: str = "invoicing/money.py"

    def checkout(self, folder: Path) -> Path:
        root = folder / "invoicing"
        shutil.copytree(ROOT / "examples" / "invoicing", root, ignore=shutil.ignore_patterns("__pycache__"))
        return repository_build(root, {})


SAMPLE = Sample()
ITSDANGEROUS = Package(
    name="itsdangerous",
    version="2.2.0",
    sha256="e0050c0b7da1eea53ffaf149c0cfbb5c6e2e2b69c4bef22c81fa6eb73e5f6173",
    path="src/itsdangerous/timed.py",
    good="raise BadTimeSignature(str(sig_error), payload=value, date_signed=ts_dt)\n",
    bad="raise BadTimeSignature(str(sig_error), payload=value)\n",
)
MORE_ITERTOOLS = Package(
    name="more-itertools",
    version="10.5.0",
    sha256="5482bfef7849c25dc3c6dd53a6173ae4795da2a41a80faea6700d9f5846c5da6",
    path="more_itertools/more.py",
    good="    padding = [False] * distance\n",
    bad="    padding = [False] * (distance - 1)\n",
)
