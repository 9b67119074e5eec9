"""Small git repositories for tests."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgSign=false"]
    completed = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return completed.stdout.strip()


def repository_make(folder: Path, files: Mapping[str, str], *, branch: str = "main") -> str:
    """A repository with one commit of these files; returns the commit's id."""
    folder.mkdir(parents=True, exist_ok=True)
    _git(folder, "init", "--quiet", "--initial-branch", branch)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", "First")
    return _git(folder, "rev-parse", "HEAD")


def bundle_make(folder: Path, bundle: Path) -> bytes:
    """All of the repository as a git bundle."""
    _git(folder, "bundle", "create", "--quiet", str(bundle), "--all")
    return bundle.read_bytes()
