"""The files of any step come back exactly, whatever was done to them since; nobody else sees what is kept for that."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.projects.git import git_run
from apps.projects.repository import branch_bundle
from apps.projects.workspace import Worktree
from apps.projects.worktree import MAX_FILE_BYTES, worktree_commit, worktree_create
from apps.projects.worktree_snapshots import (
    snapshot_keep,
    snapshots_delete,
    tree_of,
    worktree_restore,
    worktree_take,
    worktree_taken,
)
from tests.integration.test_git_worktrees import BRANCH, NOON, base, git, home, worktree

__all__ = ["base", "home", "worktree"]


def files_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file and link but for git's own, with what it holds and whether it can be run."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = (os.readlink(path), 0)
        elif path.is_file() and ".git" not in path.parts:
            found[str(path.relative_to(folder))] = (path.read_bytes().decode("latin-1"), path.stat().st_mode & 0o111)
    return found


def keep(worktree: Worktree, known: str = "") -> str:
    return snapshot_keep(worktree=worktree, session_id="s", known=known)


def delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


#: What commands do to files: to paths that collide, so that files take the places of folders and links of both.
_PATHS = st.sampled_from(["a", "a/b", "a/b/c", "src/a.py", "src", "run.sh", "link"])
_CHANGES = st.tuples(st.sampled_from(["write", "delete", "link", "run", "repository"]), _PATHS, st.sampled_from("xyz"))


def change(root: Path, kind: str, name: str, content: str) -> None:
    path = root / name
    for parent in reversed(path.relative_to(root).parents):
        if parent != Path() and ((root / parent).is_symlink() or (root / parent).is_file()):
            (root / parent).unlink()
    if kind == "run":
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode ^ 0o111)
        return
    delete(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "write":
        path.write_text(content * 3)
    elif kind == "link":
        path.symlink_to(content)
    elif kind == "repository":
        path.mkdir()
        git(path, "init", "-q")
        (path / "inner.txt").write_text(content)
        git(path, "add", "-A")
        git(path, "commit", "-qm", "inner")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.lists(_CHANGES, max_size=4), min_size=1, max_size=4), back=st.integers(0, 3))
def test_any_state_comes_back(worktree: Worktree, rounds: list[list[tuple[str, str, str]]], back: int) -> None:
    kept = [(keep(worktree), files_of(worktree.path))]
    for changes in rounds:
        for kind, name, content in changes:
            change(worktree.path, kind, name, content)
        kept.append((keep(worktree, kept[-1][0]), files_of(worktree.path)))
    (worktree.path / "left.txt").write_text("not kept\n")
    tree, files = kept[min(back, len(kept) - 1)]
    for _ in range(2):
        assert worktree_restore(worktree=worktree, tree=tree, head=worktree.base_commit)
        assert files_of(worktree.path) == files
    assert keep(worktree, tree) == tree


def test_a_repository_in_the_place_of_a_file_is_kept_as_files(worktree: Worktree) -> None:
    """git by itself keeps the name of its commit, and nothing of what is in it."""
    change(worktree.path, "repository", "src/a.py", "inner")
    tree, files = keep(worktree), files_of(worktree.path)
    assert git_run("show", f"{tree}:src/a.py/inner.txt", git_dir=worktree.git_dir).text == "inner"
    delete(worktree.path / "src" / "a.py" / "inner.txt")
    emptied = keep(worktree)
    assert "src" not in git_run("ls-tree", "-r", "--name-only", emptied, git_dir=worktree.git_dir).text
    assert worktree_restore(worktree=worktree, tree=tree, head=worktree.base_commit)
    assert files_of(worktree.path) == files


def test_the_branch_goes_back_and_the_agent_sees_the_rest_as_uncommitted(worktree: Worktree, base: str) -> None:
    (worktree.path / "src/a.py").write_text("two\n")
    tree = keep(worktree)
    committed = worktree_commit(worktree=worktree, message="Two", parent=base, timestamp=NOON).commit
    assert committed and tree_of(worktree=worktree, revision=committed) == tree
    (worktree.path / "later.txt").write_text("x\n")
    assert worktree_restore(worktree=worktree, tree=tree, head=base)
    assert git_run("rev-parse", f"refs/heads/{BRANCH}", git_dir=worktree.git_dir).text == base
    assert git(worktree.path, "rev-parse", "HEAD") == base
    assert git(worktree.path, "status", "--porcelain") == "M src/a.py"
    again = worktree_commit(worktree=worktree, message="Two", parent=base, timestamp=NOON)
    assert again.commit == committed


def test_what_git_ignores_stays_and_what_is_too_large_is_left_out(worktree: Worktree) -> None:
    (worktree.path / ".gitignore").write_text("build/\n")
    (worktree.path / "build").mkdir()
    (worktree.path / "build" / "made").write_text("first\n")
    tree = keep(worktree)
    (worktree.path / "build" / "made").write_text("second\n")
    with (worktree.path / "huge").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert keep(worktree, tree) == tree
    (worktree.path / "small").write_text("x\n")
    later = keep(worktree, tree)
    assert worktree_restore(worktree=worktree, tree=tree, head=worktree.base_commit)
    assert worktree_restore(worktree=worktree, tree=later, head=worktree.base_commit)
    assert (worktree.path / "build" / "made").read_text() == "second\n"
    assert (worktree.path / "small").exists() and not (worktree.path / "huge").exists()


def test_files_that_cannot_be_put_back_in_place_are_made_anew(worktree: Worktree, base: str) -> None:
    tree = keep(worktree)
    before = files_of(worktree.path)
    worktree.index.write_bytes(b"nonsense")
    assert not worktree_restore(worktree=worktree, tree=tree, head=base)
    anew = worktree_create(project_id="p", session_id="s", branch=BRANCH, base_commit=base)
    assert worktree_restore(worktree=anew, tree=tree, head=base)
    assert files_of(worktree.path) == before


def test_nobody_sees_what_is_kept_and_it_can_be_let_go(worktree: Worktree, base: str) -> None:
    (worktree.path / "secret.txt").write_text("uncommitted\n")
    tree = keep(worktree)
    (worktree.path / "secret.txt").unlink()
    (worktree.path / "seen.txt").write_text("committed\n")
    committed = worktree_commit(worktree=worktree, message="x", parent=base, timestamp=NOON).commit
    with pytest.raises(subprocess.CalledProcessError):
        git(worktree.path, "cat-file", "-t", tree)
    bundle = branch_bundle(project_id="p", branch=BRANCH, base=base)
    try:
        heads = git_run("bundle", "list-heads", str(bundle), git_dir=worktree.git_dir).text
    finally:
        bundle.unlink()
    assert heads == f"{committed} refs/heads/{BRANCH}"
    for _ in range(2):
        snapshots_delete(project_id="p", session_id="s")
    assert not git_run("for-each-ref", "refs/archon", git_dir=worktree.git_dir).text


def test_one_at_a_time_has_a_worktree(home: Path) -> None:
    descriptor = worktree_take("s")
    assert descriptor is not None and worktree_take("s") is None
    with worktree_taken("s", seconds=0) as taken:
        assert not taken
    with worktree_taken("other", seconds=0) as taken:
        assert taken
    os.close(descriptor)
    with worktree_taken("s", seconds=0) as taken:
        assert taken and worktree_take("s") is None
