"""A session's worktree is read back exactly, committed once, and believed in nothing."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.core.errors import Conflict
from apps.projects.repository import (
    commit_files,
    commit_paths,
    commit_resolve,
    diff_read,
    repository_import_path,
)
from apps.projects.workspace import WorkspaceError, Worktree
from apps.projects.worktree import (
    checkout_export,
    worktree_changed_files,
    worktree_commit,
    worktree_create,
    worktree_delete,
    worktree_exclude,
    worktree_reset,
    worktree_snapshot,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
BRANCH = "archon/s"


def git(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        **{f"GIT_{role}_{part}": "someone" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")},
    }
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
    ).stdout.strip()


@pytest.fixture
def home(settings: Settings) -> Iterator[Path]:
    """A home that the sandbox's user can reach, as pytest's own temporary folders can't be."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        settings.ARCHON_HOME = Path(folder)
        yield settings.ARCHON_HOME


@pytest.fixture
def base(tmp_path: Path, home: Path, settings: Settings) -> str:
    settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
    folder = tmp_path / "source"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-qb", "main")
    (folder / "src" / "a.py").write_text("one\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("src/a.py")
    (folder / "away").symlink_to("/etc/passwd")
    (folder / os.fsdecode(b"caf\xe9")).write_text("latin\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First")
    git(folder, "tag", "v1")
    return repository_import_path(project_id="p", source=str(folder)).head_commit


@pytest.fixture
def worktree(base: str) -> Worktree:
    return worktree_create(project_id="p", session_id="s", branch=BRANCH, base_commit=base)


def test_a_checkout_is_exact_and_found_again(worktree: Worktree, base: str) -> None:
    assert os.readlink(worktree.path / "away") == "/etc/passwd"
    assert os.access(worktree.path / "run.sh", os.X_OK)
    assert (worktree.path / os.fsdecode(b"caf\xe9")).read_text() == "latin\n"
    assert worktree_changed_files(worktree=worktree) == ()
    (worktree.path / "src/a.py").write_text("kept\n")
    assert worktree_create(project_id="p", session_id="s", branch=BRANCH, base_commit=base) == worktree
    assert (worktree.path / "src/a.py").read_text() == "kept\n"


def test_the_agents_git_shows_history_and_shares_nothing(worktree: Worktree, base: str) -> None:
    assert git(worktree.path, "status", "--porcelain") == ""
    assert git(worktree.path, "rev-parse", "HEAD") == base
    assert git(worktree.path, "describe", "--tags") == "v1"
    ours = {entry.stat().st_ino for entry in worktree.git_dir.rglob("*")}
    assert not ours & {entry.stat().st_ino for entry in (worktree.path / ".git").rglob("*")}
    (worktree.path / "src/a.py").write_text("two\n")
    assert "+two" in git(worktree.path, "diff")
    result = worktree_commit(worktree=worktree, message="Two", parent=base, timestamp=NOON)
    assert git(worktree.path, "rev-parse", "HEAD") == result.commit
    assert git(worktree.path, "status", "--porcelain") == ""
    assert git(worktree.path, "log", "--format=%s") == "Two\nFirst"


def test_a_commit_is_made_once_however_often_it_is_asked_for(worktree: Worktree, base: str) -> None:
    assert worktree_commit(worktree=worktree, message="None", parent=base, timestamp=NOON).commit is None
    (worktree.path / "b.py").write_text("b\n")
    (worktree.path / "link").unlink()
    first = worktree_commit(worktree=worktree, message="Change", parent=base, timestamp=NOON, author="A B <a@b.c>")
    again = worktree_commit(worktree=worktree, message="Change", parent=base, timestamp=NOON, author="A B <a@b.c>")
    assert first == again and commit_resolve(project_id="p", revision=BRANCH) == first.commit
    assert [(change.path, change.status) for change in first.files] == [("b.py", "added"), ("link", "deleted")]
    (worktree.path / "b.py").write_text("else\n")
    with pytest.raises(Conflict):
        worktree_commit(worktree=worktree, message="Change", parent=base, timestamp=NOON)
    assert commit_resolve(project_id="p", revision=BRANCH) == first.commit


def test_what_an_agent_plants_stays_data(worktree: Worktree, base: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    run = f"touch {mark}"
    (worktree.path / ".gitattributes").write_text("* filter=evil diff=evil merge=evil ident\n")
    with (worktree.path / ".git/config").open("a") as config:
        config.write(
            f"[core]\n\tfsmonitor = {run}\n\thooksPath = /workspace\n\tworktree = /\n"
            f'[filter "evil"]\n\tclean = {run}; cat\n\tsmudge = {run}; cat\n'
            f'\tprocess = {run}\n[diff "evil"]\n\ttextconv = {run}; cat\n\tcommand = {run}\n'
        )
    hook = worktree.path / ".git/hooks/pre-commit"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\n{run}\n")
    hook.chmod(0o755)
    (worktree.path / "src/a.py").write_text("two\n")
    result = worktree_commit(worktree=worktree, message="Two", parent=base, timestamp=NOON)
    assert result.commit
    diff_read(project_id="p", base=base, head=result.commit)
    worktree_reset(worktree=worktree, commit=base)
    assert not mark.exists()


def test_the_git_folder_may_be_gone_or_a_link(worktree: Worktree, base: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "HEAD").write_text("precious\n")
    (worktree.path / ".git").rename(worktree.path / "moved")
    (worktree.path / ".git").symlink_to(precious)
    (worktree.path / "src/a.py").write_text("two\n")
    assert worktree_commit(worktree=worktree, message="Two", parent=base, timestamp=NOON).commit
    assert (precious / "HEAD").read_text() == "precious\n" and len(list(precious.iterdir())) == 1
    assert not (worktree.path / ".git").is_symlink()


def test_a_repository_inside_is_taken_as_files(worktree: Worktree, base: str) -> None:
    for name, commits in (("empty", False), ("full", True), ("deep/er", True)):
        inner = worktree.path / name
        inner.mkdir(parents=True)
        git(inner, "init", "-q")
        (inner / "x.py").write_text("x\n")
        (inner / "__pycache__").mkdir()
        (inner / "__pycache__/x.pyc").write_text("x\n")
        if commits:
            git(inner, "add", "-A")
            git(inner, "commit", "-qm", "Inner")
    (worktree.path / "src/b.py").write_text("b\n")
    result = worktree_commit(worktree=worktree, message="Two", parent=base, timestamp=NOON)
    assert result.commit
    added = {change.path for change in result.files}
    assert added == {"empty/x.py", "full/x.py", "deep/er/x.py", "src/b.py"}
    (worktree.path / "full/x.py").write_text("changed\n")
    (worktree.path / "full/y.py").write_text("new\n")
    assert {change.path for change in worktree_changed_files(worktree=worktree)} == {"full/x.py", "full/y.py"}


def test_folders_files_and_links_take_each_others_places(worktree: Worktree, base: str) -> None:
    (worktree.path / "src/a.py").unlink()
    (worktree.path / "src").rmdir()
    (worktree.path / "src").symlink_to("/etc")
    (worktree.path / "run.sh").unlink()
    (worktree.path / "run.sh").mkdir()
    (worktree.path / "run.sh/inner").write_text("x\n")
    os.mkfifo(worktree.path / "pipe")
    result = worktree_commit(worktree=worktree, message="Swap", parent=base, timestamp=NOON)
    paths = commit_paths(project_id="p", commit=result.commit or "")
    assert "src" in paths and "run.sh/inner" in paths and "pipe" not in paths
    assert not [path for path in paths if path.startswith("src/")]
    assert commit_files(project_id="p", commit=result.commit or "", paths=["src"]) == {}
    worktree_reset(worktree=worktree, commit=base)
    assert (worktree.path / "src/a.py").read_text() == "one\n"
    assert Path("/etc/passwd").exists() and not Path("/etc/a.py").exists()


def test_huge_files_are_named_and_refused(worktree: Worktree, base: str) -> None:
    with (worktree.path / "big.bin").open("wb") as file:
        file.truncate(30 * 1024 * 1024)
    with pytest.raises(WorkspaceError, match=r"big\.bin"):
        worktree_snapshot(worktree=worktree)
    (worktree.path / ".gitignore").write_text("big.bin\n")
    assert [change.path for change in worktree_changed_files(worktree=worktree)] == [".gitignore"]


def test_leftovers_and_generated_files_are_not_changes(worktree: Worktree, base: str) -> None:
    worktree_exclude(worktree=worktree, paths=("src/_version.py", "od[d].so"))
    for path in ("src/_version.py", "od[d].so", ".pytest_cache/x", "src/__pycache__/a.pyc", "pkg.egg-info/PKG-INFO"):
        (worktree.path / path).parent.mkdir(exist_ok=True)
        (worktree.path / path).write_text("made\n")
    assert worktree_changed_files(worktree=worktree) == ()


def test_a_reset_removes_what_is_new_and_mends_the_rest(worktree: Worktree, base: str) -> None:
    (worktree.path / "src/a.py").write_text("broken\n")
    (worktree.path / "new").mkdir()
    (worktree.path / "new/file").write_text("x\n")
    (worktree.path / "run.sh").unlink()
    worktree_snapshot(worktree=worktree)
    worktree_reset(worktree=worktree, commit=base)
    assert (worktree.path / "src/a.py").read_text() == "one\n"
    assert (worktree.path / "run.sh").exists() and not (worktree.path / "new").exists()
    assert worktree_changed_files(worktree=worktree) == ()


def test_a_worktree_that_got_lost_comes_back_at_its_branchs_tip(worktree: Worktree, base: str) -> None:
    (worktree.path / "src/a.py").write_text("two\n")
    worktree_commit(worktree=worktree, message="Two", parent=base, timestamp=NOON)
    worktree_delete(worktree=worktree)
    worktree_delete(worktree=worktree)
    assert not worktree.path.exists()
    again = worktree_create(project_id="p", session_id="s", branch=BRANCH, base_commit=base)
    assert (again.path / "src/a.py").read_text() == "two\n"


def test_an_export_is_clean(worktree: Worktree, base: str, tmp_path: Path) -> None:
    (worktree.path / "src/a.py").write_text("two\n")
    checkout_export(project_id="p", commit=base, destination=tmp_path / "clean")
    assert (tmp_path / "clean/src/a.py").read_text() == "one\n"
    assert git(tmp_path / "clean", "status", "--porcelain") == ""
