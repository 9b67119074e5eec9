"""``./archon``: finds itself and Python, installs what the lock names once and whole, and hands over.

The lock in these checkouts names one small package and an installer made for the test, so that no network is needed;
the launcher and what it runs are the real ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.launching import ROOT
from tests.processes import wait_until

_INSTALLER = """
import os, subprocess, sys, time
if "--version" in sys.argv:
    print("uv 0.0.1")
    sys.exit()
print("installing with", os.environ.get("UV_FIND_LINKS"))
time.sleep(float(os.environ.get("SLOW_INSTALLER", "0")))
lock = sys.argv[sys.argv.index("-r") + 1]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "-q", "--require-hashes", "-r", lock]))
"""
_COMMAND = """
import json, os, sys
import parcel
print(json.dumps({
    "arguments": sys.argv[1:], "cwd": os.getcwd(), "parcel": parcel.VALUE, "python": sys.executable,
    "bytecode": not sys.dont_write_bytecode, "file": __file__,
}))
"""


def _wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> str:
    """Make a wheel; returns its line in a lock."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in content.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{information}/RECORD", "".join(f"{file},,\n" for file in (*content, f"{information}/RECORD")))
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n    # via test\n"


class Checkout:
    """A checkout with the launcher in it, and the shell from which it is called."""

    def __init__(self, root: Path, wheels: Path, home: Path) -> None:
        self.root = root
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_INDEX": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def spawn(self, *arguments: str, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "archon", *arguments],
            cwd=cwd or self.root,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None, **more: str) -> tuple[int, str, str]:
        process = self.spawn(*arguments, cwd=cwd, **more)
        output, errors = process.communicate()
        return process.returncode, output, errors


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Checkout:
    """A checkout in which everything is installed."""
    root = tmp_path_factory.mktemp("checkouts") / "a template"
    (root / "cli").mkdir(parents=True)
    (root / "cli" / "__init__.py").touch()
    (root / "cli" / "__main__.py").write_text(_COMMAND)
    shutil.copytree(ROOT / "scripts", root / "scripts")
    shutil.copy(ROOT / "archon", root / "archon")
    lock = _wheel(wheels, "uv", "0.0.1", {"uv/__init__.py": "", "uv/__main__.py": _INSTALLER})
    lock += _wheel(wheels, "parcel", "1.0", {"parcel.py": "VALUE = 1\n"})
    (root / "requirements.txt").write_text(lock)
    (root / "requirements-dev.txt").write_text(lock + "# and what developers need\n")
    checkout = Checkout(root, wheels, tmp_path_factory.mktemp("empty-home"))
    code, output, errors = checkout.run("demo", "--json")
    assert code == 0, errors
    assert json.loads(output)["parcel"] == 1, "what is installed must not get into a document"
    return checkout


@pytest.fixture
def checkout(template: Checkout, wheels: Path, tmp_path: Path) -> Checkout:
    """The same moved to another place, whose name has traps in it."""
    root = tmp_path / 'it\'s "moved" $HOME'
    shutil.copytree(template.root, root, symlinks=True)
    home = tmp_path / "empty"
    home.mkdir()
    return Checkout(root, wheels, home)


def test_a_moved_checkout_has_nothing_to_install(checkout: Checkout) -> None:
    code, output, errors = checkout.run("run", "a goal", "--repo", ".")
    assert (code, errors) == (0, "")
    said = json.loads(output)
    assert said["arguments"] == ["run", "a goal", "--repo", "."]
    assert said["python"] == str(checkout.root / ".venv/bin/python")
    assert said["bytecode"] is True


def test_it_works_by_a_link_from_a_folder_with_packages_of_the_same_names(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "repository"
    for name in ("cli", "parcel"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    link = tmp_path / "archon-link"
    link.symlink_to(checkout.root / "archon")
    relative = elsewhere / "relative"
    relative.symlink_to(Path("..") / "archon-link")
    answer = subprocess.run([relative, "x"], cwd=elsewhere, env=checkout.environment, capture_output=True, text=True)
    said = json.loads(answer.stdout)
    assert said["cwd"] == str(elsewhere)
    assert said["file"] == str(checkout.root / "cli/__main__.py")


def test_a_changed_lock_is_installed_once(checkout: Checkout, wheels: Path) -> None:
    lock = checkout.root / "requirements.txt"
    newer = _wheel(wheels, "parcel", "2.0", {"parcel.py": "VALUE = 2\n"})
    lock.write_text(lock.read_text().split("parcel==")[0] + newer)
    code, output, errors = checkout.run("x")
    assert (code, json.loads(output)["parcel"]) == (0, 2), errors
    assert "installing" in errors
    assert checkout.run("x")[2] == ""


def test_tests_and_benchmarks_install_more_and_the_rest_needs_no_less_afterwards(checkout: Checkout) -> None:
    assert "requirements-dev.txt" in checkout.run("test")[2]
    for command in ("test", "bench", "demo"):
        assert checkout.run(command)[2] == ""


@pytest.mark.slow
def test_a_package_that_is_not_the_locked_one_is_refused(checkout: Checkout, wheels: Path) -> None:
    lock = checkout.root / "requirements.txt"
    tampered = _wheel(wheels, "parcel", "3.0", {"parcel.py": "VALUE = 3\n"})
    digest = tampered.split("sha256:")[1].split()[0]
    lock.write_text(lock.read_text().split("parcel==")[0] + tampered.replace(digest, "0" * 64))
    for _ in range(2):
        code, output, errors = checkout.run("x")
        assert code != 0
        assert output == ""
        assert "installing the packages failed" in errors


@pytest.mark.slow
def test_an_interrupted_installation_is_made_anew(checkout: Checkout) -> None:
    (checkout.root / ".venv/archon-requirements.txt").unlink()
    process = checkout.spawn("x", SLOW_INSTALLER="600")
    assert wait_until(lambda: (checkout.root / ".venv/archon-unfinished").exists())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    damaged = next((checkout.root / ".venv/lib").glob("python3.11/site-packages/parcel.py"))
    damaged.write_text("VALUE = ")
    code, output, errors = checkout.run("x")
    assert (code, json.loads(output)["parcel"]) == (0, 1), errors
    assert "unfinished" in errors


def test_of_two_at_once_one_waits_and_both_work(checkout: Checkout) -> None:
    (checkout.root / ".venv/archon-requirements.txt").unlink()
    processes = [checkout.spawn("x", SLOW_INSTALLER="2") for _ in range(2)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    said = [errors for _, errors in answers]
    assert sum("waiting for it" in errors for errors in said) == 1
    assert sum("installed in" in errors for errors in said) == 1


@pytest.mark.slow
def test_an_interpreter_that_is_gone_is_replaced(checkout: Checkout) -> None:
    python = checkout.root / ".venv/bin/python"
    for name in ("python", "python3", "python3.11"):
        (checkout.root / ".venv/bin" / name).unlink()
    python.symlink_to("/nowhere/python3.11")
    code, output, errors = checkout.run("x")
    assert (code, json.loads(output)["parcel"]) == (0, 1), errors


@pytest.mark.slow
def test_the_environment_may_be_elsewhere(checkout: Checkout, tmp_path: Path) -> None:
    shutil.rmtree(checkout.root / ".venv")
    elsewhere = tmp_path / "else where"
    code, output, errors = checkout.run("x", ARCHON_VENV=str(elsewhere))
    assert code == 0, errors
    assert json.loads(output)["python"] == str(elsewhere / "bin/python")
    assert not (checkout.root / ".venv").exists()


def test_a_folder_that_is_something_else_is_left_alone(checkout: Checkout, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").touch()
    code, _, errors = checkout.run("x", ARCHON_VENV=str(precious))
    assert code != 0
    assert "not a virtual environment" in errors
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]


def test_without_python_it_says_what_to_install(checkout: Checkout, tmp_path: Path) -> None:
    shutil.rmtree(checkout.root / ".venv")
    wrong = tmp_path / "wrong-python"
    wrong.write_text("#!/bin/sh\nexit 1\n")
    wrong.chmod(0o755)
    code, _, errors = checkout.run("x", ARCHON_PYTHON=str(wrong))
    assert code == 1
    assert "Python 3.11 is needed" in errors
    assert "python3.11-venv" in errors


@pytest.mark.slow
def test_stand_ins_for_a_python_that_is_not_there_are_passed_over(checkout: Checkout, tmp_path: Path) -> None:
    shutil.rmtree(checkout.root / ".venv")
    shims = tmp_path / "shims"
    shims.mkdir()
    for name in ("python3.11", "python3"):
        (shims / name).write_text("#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
        (shims / name).chmod(0o755)
    real = Path(sys.executable).resolve().parent
    code, output, errors = checkout.run("x", PATH=f"{shims}:{real}:{os.environ['PATH']}")
    assert (code, json.loads(output)["parcel"]) == (0, 1), errors
