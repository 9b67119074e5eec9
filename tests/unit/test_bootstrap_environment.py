"""The set-up takes up again what was broken off, whenever that was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts import bootstrap


def test_a_removal_that_is_broken_off_leaves_the_mark_that_the_folder_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "venv"
    for folder in ("bin", "lib"):
        (venv / folder).mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    removed: list[Path] = []

    def one_then_interrupted(path: Path) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", one_then_interrupted)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.venv_clear(venv)
    assert (venv / bootstrap.UNFINISHED).exists()
    bootstrap.venv_clear(venv)
    assert [entry.name for entry in venv.iterdir()] == [bootstrap.UNFINISHED]
