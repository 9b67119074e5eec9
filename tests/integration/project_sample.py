"""Small repositories for the tests of environments and checks, and a home that sandboxes can reach."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

from apps.projects.environment import Environment
from apps.projects.repository import repository_import_path

BACKEND = """\
import base64, hashlib, pathlib, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return build_editable(folder)

def build_editable(folder, config_settings=None, metadata_directory=None):
    name, version = "sample", "1.0"
    pathlib.Path("src/sample/_made.py").write_text("MADE = True\\n")
    info = f"{name}-{version}.dist-info"
    files = {
        "sample.pth": str(pathlib.Path("src").resolve()) + "\\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\nRequires-Dist: lent\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\\n"
        for path, text in files.items()
    )
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\\n"
    wheel = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel
"""
PYPROJECT = """\
[project]
name = "sample"
version = "1.0"
dependencies = ["lent"]

[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
TESTS = """\
import unittest
import lent
import sample

class SampleTest(unittest.TestCase):
    def test_lent(self):
        self.assertEqual(lent.VALUE, 7)

    def test_made(self):
        from sample._made import MADE
        self.assertTrue(MADE)

    def test_twice(self):
        self.assertEqual(sample.twice(4), 8)
"""
#: A package that needs another one and, when installed, writes a file into its own checkout.
SAMPLE = {
    "backend.py": BACKEND,
    "pyproject.toml": PYPROJECT,
    "src/sample/__init__.py": "def twice(number):\n    return number + 2\n",
    "tests/test_sample.py": TESTS,
}


@contextlib.contextmanager
def reachable_home() -> Iterator[Path]:
    """A home outside pytest's own folders, which a sandbox's user can't enter."""
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def git(folder: Path, *arguments: str) -> str:
    identity = {f"GIT_{role}_{part}": "x" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **identity}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def project_import(folder: Path, files: Mapping[str, str], *, project_id: str = "p") -> str:
    """Make ``files`` the next commit of the repository at ``folder`` and import it; returns the commit."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "-qb", "main")
    for entry in folder.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Change files")
    return repository_import_path(project_id=project_id, source=str(folder)).head_commit


def pytest_environment(folder: Path) -> Environment:
    """An environment with pytest in it, copied from the one that runs this: nothing is fetched."""
    target = folder / "env"
    venv.EnvBuilder(symlinks=True).create(target)
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    for link in (target / "bin").glob("python*"):
        link.unlink()
        link.symlink_to(base)
    there = next((target / "lib").glob("python*")) / "site-packages"
    for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (there / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), there / file)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    return Environment(path=target, env={"VIRTUAL_ENV": "/env"}, cached=True, seconds=0.0, log="")
