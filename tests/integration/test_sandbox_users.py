"""Started by root, the same promises are tried once more as an ordinary user; started by one, they were already."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from apps.projects.sandbox.bubblewrap import bubblewrap_program

REPOSITORY = Path(__file__).resolve().parents[2]
USER = 54_321
MODULES = ("test_sandbox_escapes.py", "test_sandbox_commands.py", "test_workspace_files.py")


def reach(paths: list[Path]) -> list[str]:
    """Bubblewrap's arguments by which an ordinary user reaches paths below folders that are closed to it."""
    closed: dict[Path, None] = {}
    for path in paths:
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & 0o001:
                closed[folder] = None
                break
    arguments = ["--dev-bind", "/", "/"]
    for folder in closed:
        arguments += ["--perms", "0755", "--tmpfs", str(folder)]
        for path in dict.fromkeys(path for path in paths if path.is_relative_to(folder)):
            for parent in reversed(path.relative_to(folder).parents):
                arguments += ["--perms", "0755", "--dir", str(folder / parent)]
            arguments += ["--ro-bind", str(path), str(path)]
    return arguments


@pytest.mark.slow
@pytest.mark.timeout(330)
@pytest.mark.skipif(os.geteuid() != 0, reason="not started by root: the other modules tried it as this user")
def test_the_promises_hold_for_an_ordinary_user_too() -> None:
    paths = [Path(sys.base_prefix), Path(sys.prefix).resolve(), REPOSITORY]
    become = "import os, sys; os.setgroups([]); os.setgid({0}); os.setuid({0}); os.execv(sys.argv[1], sys.argv[1:])"
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chown(home, USER, USER)
        result = subprocess.run(
            [
                str(bubblewrap_program()),
                *reach(paths),
                # For changing the user; the user that it changes to has none of them.
                *("--cap-add", "ALL", "--chdir", str(REPOSITORY), "--"),
                *(sys.executable, "-c", become.format(USER), sys.executable, "-m", "pytest", "-q", "--noconftest"),
                *(
                    "-p",
                    "tests.sandbox_fixture",
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "no:randomly",
                    "-p",
                    "no:xdist",
                    "-o",
                    "addopts=",
                    "-W",
                    "ignore",
                ),
                *("--basetemp", f"{home}/tmp"),
                *(str(REPOSITORY / "tests/integration" / module) for module in MODULES),
            ],
            env={
                "HOME": home,
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "ARCHON_HOME": f"{home}/.archon",
                "DJANGO_SETTINGS_MODULE": "config.settings.test",
                "PYTHONPATH": str(REPOSITORY),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
    assert result.returncode == 0, result.stdout[-5000:]
    assert " passed" in result.stdout
