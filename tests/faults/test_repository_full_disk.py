"""A full disk is told as one, leaves nothing half done, and is got over when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.core.errors import Unavailable
from apps.projects.repository import repository_import_path, repository_path
from apps.projects.worktree import worktree_create, worktree_path
from tests.integration.project_sample import git, reachable_home

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")


@pytest.fixture
def source(tmp_path: Path, settings) -> Iterator[Path]:  # type: ignore[no-untyped-def]
    """A repository of 6 MiB, and a home on a disk of 9 MiB."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "data.bin").write_bytes(os.urandom(6 << 20))
    git(folder, "init", "-qb", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Large")
    with reachable_home() as outer:
        home = outer / "small"
        home.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m,mode=0755", "tmpfs", str(home)], check=True)
        try:
            settings.ARCHON_HOME = home
            settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
            yield folder
        finally:
            subprocess.run(["umount", str(home)], check=True)


def remount(home: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(home)], check=True)


def test_an_import_and_a_checkout_on_a_full_disk(source: Path, settings) -> None:  # type: ignore[no-untyped-def]
    remount(settings.ARCHON_HOME, "2m")
    with pytest.raises(Unavailable, match="disk is full") as failure:
        repository_import_path(project_id="p", source=str(source))
    assert failure.value.next_step
    remount(settings.ARCHON_HOME, "9m")
    info = repository_import_path(project_id="p", source=str(source))
    assert not list((repository_path(project_id="p") / "objects").glob("*/tmp_*"))
    given = {"project_id": "p", "session_id": "s", "branch": "archon/s", "base_commit": info.head_commit}
    with pytest.raises(Unavailable, match="disk is full"):
        worktree_create(**given)
    assert not worktree_path(session_id="s").exists()
    remount(settings.ARCHON_HOME, "40m")
    assert (worktree_create(**given).path / "data.bin").stat().st_size == 6 << 20
