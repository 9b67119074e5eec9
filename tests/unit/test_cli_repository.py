"""The user's repository is packed as it is committed, and nothing of it is written to but a fetched branch."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cli.errors import CliError
from cli.repository import LocalRepository, branch_fetch, bundle_create, repository_create, repository_open


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    result = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below, with its time of change and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def repository(tmp_path: Path) -> LocalRepository:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "a.txt").write_text("one\n")
    return repository_create(folder, message="First")


def test_looking_and_packing_change_nothing(repository: LocalRepository, tmp_path: Path) -> None:
    (repository.path / "a.txt").write_text("two\n")
    (repository.path / "new.txt").write_text("new\n")
    # An index whose times are out of date is what a plain `git status` would rewrite.
    os.utime(repository.path / "a.txt", (1, 1))
    before = state_of(repository.path)
    seen = repository_open(repository.path)
    bundle_create(seen, folder=_folder(tmp_path))
    assert seen.changed_files == 2
    assert state_of(repository.path) == before


def test_a_bundle_holds_the_branch_of_head(repository: LocalRepository, tmp_path: Path) -> None:
    bundle = bundle_create(repository, folder=_folder(tmp_path))
    git(tmp_path, "clone", "--quiet", str(bundle), "copy")
    assert git(tmp_path / "copy", "rev-parse", "HEAD") == repository.head_commit
    assert git(tmp_path / "copy", "symbolic-ref", "HEAD") == "refs/heads/main"


def test_a_detached_head_and_a_linked_work_tree_can_be_packed(repository: LocalRepository, tmp_path: Path) -> None:
    git(repository.path, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    linked = repository_open(tmp_path / "linked")
    assert linked.detached
    bundle = bundle_create(linked, folder=_folder(tmp_path))
    heads = git(tmp_path, "ls-remote", str(bundle))
    assert f"{repository.head_commit}\trefs/heads/detached-{repository.head_commit[:8]}" in heads
    assert git(repository.path, "branch", "--list", "detached-*") == ""


def test_a_folder_inside_the_work_tree_means_the_whole(repository: LocalRepository) -> None:
    (repository.path / "deep").mkdir()
    assert repository_open(repository.path / "deep").path == repository.path


@pytest.mark.parametrize("name", ["nowhere", "file", "plain", "empty", "bare"])
def test_what_is_no_repository_is_refused_with_a_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("plain", "empty"):
        (tmp_path / folder).mkdir()
    git(tmp_path, "init", "--quiet", "empty")
    git(tmp_path, "init", "--quiet", "--bare", "bare")
    with pytest.raises(CliError) as caught:
        repository_open(tmp_path / name)
    assert caught.value.next_step


def test_a_shallow_clone_is_refused(repository: LocalRepository, tmp_path: Path) -> None:
    git(repository.path, "commit", "--quiet", "--allow-empty", "-m", "Second")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository.path}", "shallow")
    with pytest.raises(CliError, match="shallow"):
        repository_open(tmp_path / "shallow")


def test_a_fetched_branch_leaves_the_checkout_alone(repository: LocalRepository, tmp_path: Path) -> None:
    bundle, commit = _session_bundle(repository, tmp_path)
    (repository.path / "a.txt").write_text("uncommitted\n")
    assert branch_fetch(repository, bundle=bundle, branch="archon/1") == commit
    assert git(repository.path, "rev-parse", "archon/1") == commit
    assert git(repository.path, "rev-parse", "HEAD") == repository.head_commit
    assert (repository.path / "a.txt").read_text() == "uncommitted\n"
    assert not (repository.path / ".git" / "FETCH_HEAD").exists()
    # Again, it changes nothing.
    assert branch_fetch(repository, bundle=bundle, branch="archon/1") == commit


def test_a_branch_with_commits_of_its_own_is_not_overwritten(repository: LocalRepository, tmp_path: Path) -> None:
    bundle, _ = _session_bundle(repository, tmp_path)
    git(repository.path, "switch", "--quiet", "--create", "archon/1")
    git(repository.path, "commit", "--quiet", "--allow-empty", "-m", "My own")
    mine = git(repository.path, "rev-parse", "HEAD")
    git(repository.path, "switch", "--quiet", "main")
    with pytest.raises(CliError) as caught:
        branch_fetch(repository, bundle=bundle, branch="archon/1")
    assert "rename it" in caught.value.next_step
    assert git(repository.path, "rev-parse", "archon/1") == mine


@pytest.mark.parametrize("branch", ["main", "../archon/1", "archon/..", "--upload-pack=x", ""])
def test_a_server_can_not_name_another_branch(branch: str, repository: LocalRepository, tmp_path: Path) -> None:
    bundle, _ = _session_bundle(repository, tmp_path)
    with pytest.raises(CliError) as caught:
        branch_fetch(repository, bundle=bundle, branch=branch)
    assert caught.value.code == "bad_branch"


def test_a_branch_of_another_repository_is_refused(repository: LocalRepository, tmp_path: Path) -> None:
    bundle, _ = _session_bundle(repository, tmp_path, prerequisite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.txt").write_text("b")
    with pytest.raises(CliError) as caught:
        branch_fetch(repository_create(other, message="Other"), bundle=bundle, branch="archon/1")
    assert "not the repository" in caught.value.next_step


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    folder.mkdir()
    return folder


def _session_bundle(repository: LocalRepository, tmp_path: Path, *, prerequisite: bool = False) -> tuple[Path, str]:
    """A bundle as a server makes it, with one commit on top of the repository's."""
    server, bundle = tmp_path / "server", tmp_path / "session.bundle"
    git(tmp_path, "clone", "--quiet", str(repository.path), str(server))
    git(server, "switch", "--quiet", "--create", "archon/1")
    (server / "a.txt").write_text("mended\n")
    git(server, "commit", "--quiet", "--all", "-m", "Mend")
    without = ["^origin/main"] if prerequisite else []
    git(server, "bundle", "create", "--quiet", str(bundle), "archon/1", *without)
    return bundle, git(server, "rev-parse", "HEAD")
