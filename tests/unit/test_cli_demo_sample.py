"""The demo's sample fails as it is, and the recorded edits mend it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.demo import SAMPLE, sample_create

RECORDING = SAMPLE.parent / "invoicing.json"


def edits_recorded() -> list[dict[str, Any]]:
    entries = json.loads(RECORDING.read_text())["entries"]
    calls = [call for entry in entries for call in entry["reply"]["tool_calls"]]
    return [call["args"] for call in calls if call["name"] == "edit_file"]


def suite_run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "unittest"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_two_tests_fail_until_the_recorded_edits_are_made(tmp_path: Path) -> None:
    repository = sample_create(tmp_path)
    before = suite_run(repository.path)
    assert "Ran 25 tests" in before.stderr and "FAILED (failures=2)" in before.stderr
    fix, pin = edits_recorded()
    edit_apply(repository.path, pin)
    assert "FAILED (failures=3)" in suite_run(repository.path).stderr
    edit_apply(repository.path, fix)
    after = suite_run(repository.path)
    assert after.returncode == 0 and "Ran 26 tests" in after.stderr


def test_each_sample_is_a_repository_of_its_own(tmp_path: Path) -> None:
    first, second = sample_create(tmp_path), sample_create(tmp_path)
    assert first.path != second.path
    assert (first.path / ".git").is_dir()
    assert first.changed_files == 0


def edit_apply(folder: Path, edit: dict[str, Any]) -> None:
    path = folder / edit["path"]
    text = path.read_text()
    assert text.count(edit["old_text"]) == 1
    path.write_text(text.replace(edit["old_text"], edit["new_text"]))
