"""Fetches whose worker dies, stops or finds the disk full: another goes on, and the state is always a defined one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.resources import Project
from tests.builders import git, repository_build
from tests.launching import ROOT
from tests.loopback.git_server import GitServer, git_server_run
from tests.processes import processes_of, wait_until
from tests.stacks import LiveStack, home_open, stack_open

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[GitServer]:
    repository_build(tmp_path / "served" / "sample", {"a.txt": "a\n"})
    with git_server_run(tmp_path / "served", tmp_path / "keys") as server:
        yield server


@pytest.fixture
def stack(forge: GitServer) -> Iterator[LiveStack]:
    variables = {"ARCHON_GIT_CA_FILE": str(forge.ca_file), "ARCHON_PRIVATE_HOSTS": f"127.0.0.1:{forge.port}"}
    with home_open() as home, stack_open(home, **variables) as running:
        yield running


def workers(stack: LiveStack) -> list[int]:
    return [pid for pid, command in processes_of(stack.home).items() if "celery" in command]


def project_wait(stack: LiveStack, project_id: str, state: str) -> Project:
    assert wait_until(lambda: stack.api.project_get(project_id).repository_state == state, seconds=120), (
        stack.api.project_get(project_id),
        (stack.home / "logs" / "worker.log").read_text()[-3000:],
    )
    return stack.api.project_get(project_id)


def stalled_clone(stack: LiveStack, forge: GitServer) -> Project:
    """A project whose fetch stands still in the middle."""
    forge.stalled.set()
    project = stack.api.project_create(name="sample", repository_url=forge.url("sample/.git"))
    assert forge.stall_entered.wait(60)
    return project


def test_a_worker_that_is_killed_in_a_clone_is_followed(stack: LiveStack, forge: GitServer) -> None:
    project = stalled_clone(stack, forge)
    before = workers(stack)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    forge.stalled.clear()
    assert wait_until(lambda: bool(set(workers(stack)) - set(before)), seconds=60), "the stack starts another"
    ready = project_wait(stack, project.id, "ready")
    assert ready.head_commit == git(forge.folder / "sample", "rev-parse", "HEAD")
    packs = stack.home / "repositories" / f"{project.id}.git" / "objects" / "pack"
    assert not list(packs.glob("tmp_*"))


def test_a_worker_that_is_told_to_stop_lets_go_of_its_clone(stack: LiveStack, forge: GitServer) -> None:
    project = stalled_clone(stack, forge)
    before = workers(stack)
    for pid in before:
        os.kill(pid, signal.SIGTERM)
    assert wait_until(lambda: not set(workers(stack)) & set(before), seconds=60), "it does not wait for the clone"
    forge.stalled.clear()
    assert project_wait(stack, project.id, "ready").source is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk_fails_the_clone_and_is_got_over(forge: GitServer, tmp_path: Path) -> None:
    """In a process of its own: the disk is small for it alone."""
    (forge.folder / "sample" / "data.bin").write_bytes(os.urandom(6 << 20))
    git(forge.folder / "sample", "add", "-A")
    git(forge.folder / "sample", "commit", "-qm", "Large")
    with home_open() as outer:
        home = outer / "small"
        home.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", str(home)], check=True)
        try:
            script = (
                "import django; django.setup()\n"
                "from apps.projects.repository_remote import repository_fetch\n"
                "from apps.projects.remote_access import RemoteCredentials\n"
                "from apps.projects.remote_address import remote_address_parse\n"
                "from apps.core.errors import DiskFull\n"
                "import subprocess, sys\n"
                "def fetch():\n"
                "    return repository_fetch(project_id='p', address=remote_address_parse(sys.argv[1]),\n"
                "        credentials=RemoteCredentials(), branch='', force=False,\n"
                "        on_progress=lambda progress: None, on_tick=lambda: None)\n"
                "try:\n    fetch()\n    raise SystemExit('it fitted')\n"
                "except DiskFull as error:\n    assert error.next_step\n"
                "subprocess.run(['mount', '-o', 'remount,size=40m', sys.argv[2]], check=True)\n"
                "print(fetch().info.head_commit)\n"
            )
            environment = {
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "config.settings.test",
                "ARCHON_HOME": str(home),
                "ARCHON_GIT_CA_FILE": str(forge.ca_file),
                "ARCHON_PRIVATE_HOSTS": f"127.0.0.1:{forge.port}",
                "PYTHONPATH": str(ROOT),
            }
            done = subprocess.run(
                [sys.executable, "-c", script, forge.url("sample/.git"), str(home)],
                env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == git(forge.folder / "sample", "rev-parse", "HEAD")
        finally:
            subprocess.run(["umount", str(home)], check=True)
