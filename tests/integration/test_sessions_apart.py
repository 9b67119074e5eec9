"""Two sessions on one project, at the same time: neither sees the other's files, caches, /tmp or processes."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from pytest_django import Settings

from apps.projects.repository import commit_paths, repository_import_path
from apps.projects.sandbox import SandboxWorkspace, workspace_open
from apps.projects.workspace import Worktree
from apps.projects.worktree import worktree_commit, worktree_create
from tests.builders import repository_build
from tests.integration.test_git_worktrees import NOON
from tests.sandboxing import LIMITS, marker, processes_alive

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("each_sandbox")]

#: Everything that one could leave somewhere, with its name on it.
LEAVE = """
echo "$1" > "left-$1"; echo "$1" > "/tmp/left-$1"; mkdir -p ~/.cache "$HOME/.config"
echo "$1" > ~/.cache/left-$1; echo "$1" > /dev/shm/left-$1; git config user.name "left-$1"; git branch "left-$1"
touch /env/left-$1 2>/dev/null || true
python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind("\\0left-" + sys.argv[1]); s.listen()
t = socket.create_server(("127.0.0.1", 8765)); open("ready", "w").close(); time.sleep(600)' "$1" "$2"
"""
#: What can be found of somebody's with that name.
LOOK = """
find / -name "left-$1" -not -path '/proc/*' 2>/dev/null
running=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n')
# Backwards, so that nothing here has it in its own arguments.
wanted=$(printf %s "$2" | rev); [[ $running == *"$wanted"* ]] && echo "$wanted"
git config user.name; git branch --list "left-$1"; grep -c "left-$1" /proc/net/unix
python3 -c 'import socket; print("port taken" if socket.socket().connect_ex(("127.0.0.1", 8765)) == 0 else "")'
ipcs -a 2>/dev/null | grep -c 0x
"""


@pytest.fixture
def home(settings: Settings) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        Path(folder).chmod(0o755)
        settings.ARCHON_HOME = Path(folder) / "home"
        settings.ARCHON_REPOSITORY_ROOTS = [folder]
        yield Path(folder)


@pytest.mark.slow
async def test_neither_sees_what_the_other_leaves(home: Path) -> None:
    source = repository_build(home / "source", {"shared.txt": "the project's\n"})
    project_id = uuid.uuid4()
    base = repository_import_path(project_id=project_id, source=str(source)).head_commit
    environment = home / "environment"
    environment.mkdir()
    environment.chmod(0o755)
    worktrees = [_worktree(project_id, name, base) for name in ("one", "two")]
    marks = [marker(), marker()]
    # One environment for both, as sessions of a project have it.
    async with (
        workspace_open(worktrees[0], limits=LIMITS, environment=environment) as one,
        workspace_open(worktrees[1], limits=LIMITS, environment=environment) as two,
    ):
        both = list(zip((one, two), ("one", "two"), marks, strict=True))
        for workspace, name, mark in both:
            await workspace.background_start(["bash", "-c", LEAVE, "leave", name, mark], name="left")
        await asyncio.gather(*(_ready(workspace) for workspace in (one, two)))
        assert all(processes_alive(mark) for mark in marks)
        for (workspace, name, mark), (_, other, others_mark) in zip(both, reversed(both), strict=True):
            own = await _look(workspace, name, mark)
            for place in (f"/workspace/left-{name}", f"/tmp/left-{name}", f"/dev/shm/left-{name}", mark, "port taken"):
                assert place in own, (place, own)
            seen = await _look(workspace, other, others_mark)
            assert other not in seen.replace("port taken", "").replace("another", ""), seen
            assert others_mark not in seen
        listed = [entry.path for entry in (await one.file_list()).entries]
        assert "left-one" in listed and "left-two" not in listed
        assert list(environment.iterdir()) == []
        # What one stops or kills is its own.
        await one.command_run("kill -9 -1", timeout=30)
        await one.background_stop("left")
        assert not processes_alive(marks[0]) and processes_alive(marks[1])
        assert (await two.command_run("cat left-two", timeout=30)).output == "two\n"
    commits = [
        worktree_commit(worktree=worktree, message="Change", parent=base, timestamp=NOON).commit
        for worktree in worktrees
    ]
    files = [set(commit_paths(project_id=project_id, commit=str(commit))) for commit in commits]
    assert "left-one" in files[0] and "left-two" not in files[0]
    assert "left-two" in files[1] and "left-one" not in files[1]
    assert settings.ARCHON_HOME.is_dir()


def _worktree(project_id: uuid.UUID, name: str, base: str) -> Worktree:
    return worktree_create(project_id=project_id, session_id=uuid.uuid4(), branch=f"archon/{name}", base_commit=base)


async def _ready(workspace: SandboxWorkspace) -> None:
    async with asyncio.timeout(60):
        while "ready" not in [entry.path for entry in (await workspace.file_list()).entries]:
            await asyncio.sleep(0.05)


async def _look(workspace: SandboxWorkspace, name: str, mark: str) -> str:
    return (await workspace.command_run(["bash", "-c", LOOK, "look", name, mark[::-1]], timeout=60)).output
