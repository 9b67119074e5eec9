"""What must not be root's lies where an unprivileged account reaches it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from integrations.embedded import ServicesUnavailable, reach

_STRANGER = {"uid": 54321, "gid": 54321}


@pytest.fixture
def as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to put things into, with everything looking as it does for root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(reach, "SHARED_STATE", tmp_path / "shared")
    return tmp_path


def test_a_folder_is_out_of_reach_when_one_above_it_is_closed(tmp_path: Path) -> None:
    open_folder = Path("/usr/share")
    assert reach.is_reachable(open_folder, **_STRANGER)
    closed = tmp_path / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    closed.chmod(0o700)
    assert not reach.is_reachable(inside, **_STRANGER)
    assert not reach.is_reachable(tmp_path / "not there", **_STRANGER)


def test_an_ordinary_user_keeps_everything_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    home = tmp_path / "home"
    assert reach.unprivileged_uid() is None
    assert reach.runtime_root(home) == home
    assert home.is_dir()


def test_root_uses_an_account_that_exists(as_root: Path) -> None:
    account = reach.unprivileged_uid()
    assert account is not None
    assert account[0] != 0


def test_a_closed_home_gets_a_folder_elsewhere_and_remembers_it(as_root: Path) -> None:
    home = _closed_home(as_root)
    root = reach.runtime_root(home)
    assert root.parent == as_root / "shared"
    assert root.stat().st_mode & 0o777 == 0o755
    assert reach.runtime_root(home) == root


def test_a_moved_home_keeps_its_folder_and_a_copied_one_gets_another(as_root: Path) -> None:
    home = _closed_home(as_root)
    root = reach.runtime_root(home)
    copy = shutil.copytree(home, as_root / "copy")
    assert reach.runtime_root(copy) != root
    moved = home.rename(as_root / "moved")
    assert reach.runtime_root(moved) == root


def test_a_home_that_falls_out_of_reach_is_an_error_and_not_an_empty_database(as_root: Path) -> None:
    home = as_root / "home"
    home.mkdir()
    (home / "runtime-root").write_text(".")
    home.chmod(0o700)
    with pytest.raises(ServicesUnavailable, match="can't reach it any more"):
        reach.runtime_root(home)


def _closed_home(folder: Path) -> Path:
    home = folder / "home"
    home.mkdir()
    home.chmod(0o700)
    return home
