"""A repository comes in by path or by bundle, comes in again, and is refused when it isn't one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.core.errors import Conflict, InvalidInput, NotFound, TooLarge
from apps.projects.repository import (
    branch_bundle,
    branch_delete,
    branch_merge,
    commit_files,
    commit_paths,
    commit_resolve,
    diff_read,
    repository_delete,
    repository_import_bundle,
    repository_import_path,
    repository_info,
    repository_path,
)


def git(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        **{f"GIT_{role}_{part}": "someone" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")},
    }
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, **files: str) -> str:
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Change files")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def source(tmp_path: Path, settings: Settings) -> Path:
    settings.ARCHON_HOME = tmp_path / "home"
    settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path / "code")]
    folder = tmp_path / "code" / "a project"
    folder.mkdir(parents=True)
    git(folder, "init", "-qb", "main")
    commit(folder, a__py="one\n")
    return folder


def bundle_of(folder: Path, *revisions: str) -> Path:
    path = folder.parent.parent / "sent.bundle"
    git(folder, "bundle", "create", "-q", str(path), *revisions)
    return path


def test_a_folder_is_imported_and_left_as_it_is(source: Path) -> None:
    git(source, "branch", "other")
    git(source, "tag", "v1")
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    info = repository_import_path(project_id="p", source=str(source))
    assert (info.default_branch, info.branches) == ("main", ("main", "other"))
    assert info.head_commit == git(source, "rev-parse", "HEAD")
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before
    assert repository_info(project_id="p") == info
    assert commit_resolve(project_id="p", revision="v1") == info.head_commit


def test_importing_again_moves_on_and_keeps_what_was_merged_here(source: Path) -> None:
    first = repository_import_path(project_id="p", source=str(source))
    assert repository_import_path(project_id="p", source=str(source)) == first
    second = commit(source, a__py="two\n")
    assert repository_import_path(project_id="p", source=str(source)).head_commit == second
    git(source, "switch", "-qc", "work")
    ours = commit(source, b__py="b\n")
    repository_import_path(project_id="p", source=str(source))
    assert branch_merge(project_id="p", branch="work", into="main", expected=second) == ours
    info = repository_import_path(project_id="p", source=str(source), branch="main")
    assert info.head_commit == ours
    git(source, "switch", "-q", "main")
    commit(source, c__py="c\n")
    with pytest.raises(Conflict) as refusal:
        repository_import_path(project_id="p", source=str(source), branch="main")
    assert refusal.value.extra["state"] == "diverged"
    assert repository_info(project_id="p").head_commit == ours


def test_a_rewritten_branch_is_followed_when_nothing_was_merged_here(source: Path) -> None:
    repository_import_path(project_id="p", source=str(source))
    git(source, "commit", "-q", "--amend", "-m", "Rewritten")
    info = repository_import_path(project_id="p", source=str(source))
    assert info.head_commit == git(source, "rev-parse", "HEAD")


def test_a_linked_worktree_and_a_shallow_clone_are_repositories(source: Path) -> None:
    commit(source, a__py="two\n")
    git(source, "worktree", "add", "-q", "-b", "side", str(source.parent / "side"))
    assert repository_import_path(project_id="p", source=str(source.parent / "side")).default_branch == "side"
    git(source.parent, "clone", "-q", "--depth=1", f"file://{source}", "shallow")
    assert repository_import_path(project_id="q", source=str(source.parent / "shallow")).head_commit


def test_programs_that_a_repository_names_do_not_run(source: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for setting in ("core.fsmonitor", "uploadpack.packObjectsHook", "core.sshCommand", "diff.external", "core.pager"):
        git(source, "config", setting, f"touch {mark}; false")
    hook = source / ".git" / "hooks" / "reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    info = repository_import_path(project_id="p", source=str(source))
    diff_read(project_id="p", base=info.head_commit, head=info.head_commit)
    assert not mark.exists()


@pytest.mark.parametrize(
    "arrange", ["missing", "outside", "link", "pointer", "borrowed", "relative", "plain", "empty", "nul"]
)
def test_a_path_that_is_no_repository_here_is_refused(source: Path, tmp_path: Path, arrange: str) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    git(outside, "init", "-qb", "main")
    commit(outside, secret="s\n")
    roots = tmp_path / "code"
    named = roots / "named"
    if arrange == "outside":
        named = outside
    elif arrange == "link":
        named.symlink_to(outside)
    elif arrange == "pointer":
        named.mkdir()
        (named / ".git").write_text(f"gitdir: {outside / '.git'}\n")
    elif arrange == "borrowed":
        git(roots, "init", "-q", "named")
        (named / ".git/objects/info/alternates").write_text(f"{outside / '.git/objects'}\n")
    elif arrange == "plain":
        named.mkdir()
    elif arrange == "empty":
        git(roots, "init", "-q", "named")
    text = {"relative": "code/a project", "nul": f"{roots}/a\0b"}.get(arrange, str(named))
    with pytest.raises(InvalidInput) as refusal:
        repository_import_path(project_id="p", source=text)
    assert refusal.value.next_step


def test_no_path_is_taken_unless_the_operator_allows_one(source: Path, settings: Settings) -> None:
    settings.ARCHON_REPOSITORY_ROOTS = []
    with pytest.raises(InvalidInput):
        repository_import_path(project_id="p", source=str(source))


def test_a_bundle_is_imported_again_and_in_parts(source: Path) -> None:
    first = git(source, "rev-parse", "HEAD")
    git(source, "tag", "-am", "One", "v1")
    bundle = bundle_of(source, "--all")
    info = repository_import_bundle(project_id="p", bundle_path=bundle)
    assert (info.default_branch, info.head_commit) == ("main", first)
    assert repository_import_bundle(project_id="p", bundle_path=bundle) == info
    assert commit_resolve(project_id="p", revision="v1") == first
    second = commit(source, a__py="two\n")
    part = bundle_of(source, "main", f"^{first}")
    assert repository_import_bundle(project_id="p", bundle_path=part).head_commit == second
    with pytest.raises(InvalidInput, match="incomplete"):
        repository_import_bundle(project_id="other", bundle_path=part)


def test_a_bundle_of_a_detached_head_becomes_the_named_branch(source: Path) -> None:
    git(source, "checkout", "-q", "--detach")
    info = repository_import_bundle(project_id="p", bundle_path=bundle_of(source, "HEAD"), branch="work")
    assert info.branches == ("work",)


def test_damaged_bundles_are_refused(source: Path, tmp_path: Path, settings: Settings) -> None:
    whole = bundle_of(source, "--all").read_bytes()
    header_end = whole.index(b"\n\n") + 2
    broken = tmp_path / "broken.bundle"
    for content in (
        b"",
        b"PK\x03\x04 no bundle",
        whole[: header_end // 2],
        whole[: header_end + 20],
        whole[:-30] + b"x" * 30,
        whole[:header_end],
        whole.replace(whole[header_end - 60 : header_end - 20], b"0" * 40, 1),
        whole.replace(b"# v2 git bundle\n", b"# v3 git bundle\n@filter=blob:none\n"),
        b"# v2 git bundle\n" + b"a" * 40 + b" refs/heads/../../x\n\n",
        b"# v2 git bundle\n" + b"a" * 100_000,
    ):
        broken.write_bytes(content)
        with pytest.raises(InvalidInput) as refusal:
            repository_import_bundle(project_id="p", bundle_path=broken)
        assert refusal.value.next_step
    with pytest.raises(NotFound):
        repository_info(project_id="p")
    assert not list((repository_path(project_id="p") / "objects").glob("incoming-*"))
    settings.ARCHON_UPLOAD_LIMIT_MB = 0
    with pytest.raises(TooLarge):
        repository_import_bundle(project_id="p", bundle_path=broken)


def test_a_diff_survives_binary_files_odd_names_and_a_limit(source: Path) -> None:
    base = git(source, "rev-parse", "HEAD")
    (source / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"caf\xe9\n")
    (source / "new\nline.bin").write_bytes(bytes(range(256)))
    (source / "a.py").rename(source / "renamed.py")
    head = commit(source, long__txt="line\n" * 5000)
    repository_import_path(project_id="p", source=str(source))
    diff = diff_read(project_id="p", base=base, head=head)
    changes = {change.path: change for change in diff.files}
    assert changes["caf\N{REPLACEMENT CHARACTER}.txt"].status == "added"
    assert changes["new\nline.bin"].additions is None
    assert (changes["renamed.py"].status, changes["renamed.py"].previous_path) == ("renamed", "a.py")
    assert changes["long.txt"].additions == 5000
    assert not diff.truncated
    diff.text.encode()
    cut = diff_read(project_id="p", base=base, head=head, max_bytes=1000)
    assert cut.truncated and len(cut.text.encode()) <= 1100 and cut.text.endswith("\n") and len(cut.files) == 4
    assert len(commit_paths(project_id="p", commit=head)) == 4
    assert commit_files(project_id="p", commit=head, paths=["renamed.py", "nothing"]) == {"renamed.py": b"one\n"}


def test_branches_are_merged_once_and_conflicts_change_nothing(source: Path) -> None:
    git(source, "switch", "-qc", "clean")
    commit(source, b__py="b\n")
    git(source, "switch", "-qc", "clashing", "main")
    commit(source, a__py="theirs\n")
    git(source, "switch", "-q", "main")
    target = commit(source, a__py="ours\n")
    repository_import_path(project_id="p", source=str(source))
    with pytest.raises(Conflict) as refusal:
        branch_merge(project_id="p", branch="clashing", into="main", expected=target)
    assert refusal.value.extra == {"state": "merge_conflict", "files": ["a.py"]}
    with pytest.raises(Conflict) as refusal:
        branch_merge(project_id="p", branch="clean", into="main", expected="0" * 40)
    assert refusal.value.extra["state"] == "target_moved"
    merged = branch_merge(project_id="p", branch="clean", into="main", expected=target)
    assert branch_merge(project_id="p", branch="clean", into="main", expected=target) == merged
    assert set(commit_paths(project_id="p", commit=merged)) == {"a.py", "b.py"}


def test_a_branch_leaves_as_a_bundle_and_is_deleted_once(source: Path) -> None:
    base = git(source, "rev-parse", "HEAD")
    git(source, "branch", "same")
    git(source, "switch", "-qc", "work")
    head = commit(source, b__py="b\n")
    git(source, "switch", "-q", "main")
    repository_import_path(project_id="p", source=str(source))
    path = branch_bundle(project_id="p", branch="work", base=base)
    git(source, "branch", "-qD", "work")
    git(source, "fetch", "-q", str(path), "work:back")
    assert git(source, "rev-parse", "back") == head
    with pytest.raises(Conflict):
        branch_bundle(project_id="p", branch="same", base=base)
    with pytest.raises(Conflict):
        branch_delete(project_id="p", branch="main")
    branch_delete(project_id="p", branch="work")
    branch_delete(project_id="p", branch="work")
    with pytest.raises(NotFound):
        commit_resolve(project_id="p", revision="work")
    repository_delete(project_id="p")
    repository_delete(project_id="p")
    with pytest.raises(NotFound):
        repository_info(project_id="p")
