"""Git on a repository that an agent has written: whatever makes plain git run a program of the repository's choice.

Each is planted in a session's worktree, and the server does all it ever does with one; then plain git does the same in
a copy of it, the control. The program leaves a mark on the host.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from django.conf import settings

from apps.core.errors import ApplicationError
from apps.projects.repository import (
    branch_bundle,
    branch_merge,
    commit_resolve,
    diff_read,
    patch_make,
    repository_delete,
    repository_import_path,
)
from apps.projects.repository_history import RepositoryHistory
from apps.projects.repository_rebase import branch_replay
from apps.projects.workspace import Worktree
from apps.projects.worktree import (
    checkout_export,
    session_files_delete,
    worktree_changed_files,
    worktree_commit,
    worktree_create,
    worktree_reset,
    worktree_snapshot_commit,
)
from tests.attacks.attempt import Attempt, Outcome, Stage, shown

_NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
_IDENTITY = {f"GIT_{role}_{part}": "someone" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}


@dataclass(frozen=True)
class _Planted:
    """Where something is planted: the worktree with the agent's own .git, and the program that leaves the mark."""

    worktree: Path
    program: str

    def configure(self, text: str) -> None:
        with (self.worktree / ".git" / "config").open("a") as config:
            config.write(text)

    def attributes(self, text: str) -> None:
        (self.worktree / ".gitattributes").write_text(text)
        information = self.worktree / ".git" / "info"
        information.mkdir(exist_ok=True)
        # Where the file is not in a commit that git goes to.
        (information / "attributes").write_text(text)

    def script(self, path: str) -> None:
        target = self.worktree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"#!/bin/sh\n{self.program}\nexit 0\n")
        target.chmod(0o755)


def _fsmonitor(planted: _Planted) -> None:
    planted.configure(f'[core]\n\tfsmonitor = "{planted.program}; false"\n')


def _hooks(planted: _Planted) -> None:
    for name in (
        "pre-commit",
        "post-commit",
        "post-checkout",
        "post-merge",
        "post-index-change",
        "reference-transaction",
    ):
        planted.script(f".git/hooks/{name}")


def _hooks_path(planted: _Planted) -> None:
    for name in ("pre-commit", "post-commit", "post-checkout", "post-merge", "post-index-change"):
        planted.script(f"own-hooks/{name}")
    planted.configure("[core]\n\thooksPath = own-hooks\n")


def _filter(planted: _Planted, *, kind: str) -> None:
    command = f"{planted.program}; cat" if kind != "process" else planted.program
    planted.configure(f'[filter "evil"]\n\t{kind} = "{command}"\n')
    planted.attributes("* filter=evil\n")


def _textconv(planted: _Planted) -> None:
    planted.script("own-textconv")
    planted.configure('[diff "evil"]\n\ttextconv = ./own-textconv\n')
    planted.attributes("* diff=evil\n")


def _diff_driver(planted: _Planted) -> None:
    planted.configure(f'[diff "evil"]\n\tcommand = "{planted.program}; true"\n')
    planted.attributes("* diff=evil\n")


def _external_diff(planted: _Planted) -> None:
    planted.script("own-diff")
    planted.configure("[diff]\n\texternal = ./own-diff\n")


def _merge_driver(planted: _Planted) -> None:
    planted.configure(f'[merge "evil"]\n\tname = evil\n\tdriver = "{planted.program}; true"\n')
    planted.attributes("*.py merge=evil\n")


def _gpg(planted: _Planted) -> None:
    planted.script("own-gpg")
    planted.configure(
        f"[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = {planted.worktree}/own-gpg\n[user]\n\tsigningKey = x\n"
    )


def _embedded_bare(planted: _Planted) -> None:
    """A folder that is a bare repository by what is in it, without a .git; plain git finds it from within."""
    bare = planted.worktree / "src"
    for folder in ("objects", "refs/heads"):
        (bare / folder).mkdir(parents=True)
    (bare / "HEAD").write_text("ref: refs/heads/main\n")
    (bare / "config").write_text(
        "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ..\n"
        f'\tfsmonitor = "{planted.program}; false"\n'
    )


_KINDS: dict[str, Callable[[_Planted], None]] = {
    "fsmonitor": _fsmonitor,
    "hooks": _hooks,
    "hooksPath": _hooks_path,
    "clean filter": partial(_filter, kind="clean"),
    "smudge filter": partial(_filter, kind="smudge"),
    "process filter": partial(_filter, kind="process"),
    "textconv": _textconv,
    "external diff": _external_diff,
    "diff driver": _diff_driver,
    "merge driver": _merge_driver,
    "gpg program": _gpg,
    "embedded bare repository": _embedded_bare,
}


async def planted(stage: Stage, *, kind: str) -> Outcome:
    return await asyncio.to_thread(_planted_try, stage, kind)


def _planted_try(stage: Stage, kind: str) -> Outcome:
    mark = stage.folder / "mark"
    with _session(stage) as (project_id, worktree):
        place = _Planted(worktree.path, f"touch {mark}")
        _KINDS[kind](place)
        (worktree.path / "src" / "a.py").write_text("changed by the agent\n")
        copy = stage.folder / "copy"
        shutil.copytree(worktree.path, copy, symlinks=True)
        # What is planted names paths of the worktree's; in the copy they have to be the copy's.
        config = copy / ".git" / "config"
        config.write_text(config.read_text().replace(str(worktree.path), str(copy)))
        said = _server_works(stage, project_id, worktree)
        blocked = not mark.exists()
        mark.unlink(missing_ok=True)
        _plain_works(copy)
        control = mark.exists()
    return Outcome(
        blocked,
        control,
        f"the server's work ({said}) left {'no mark' if blocked else 'a mark'} on the host; plain git left "
        f"{'one' if control else 'none'}",
    )


@contextmanager
def _session(stage: Stage) -> Iterator[tuple[uuid.UUID, Worktree]]:
    """A project whose branch has moved on in the same lines since a session began on it."""
    source = stage.folder / "source"
    (source / "src").mkdir(parents=True)
    (source / "src" / "a.py").write_text("one\n")
    _git(source, "init", "-qb", "main")
    _git(source, "add", "-A")
    _git(source, "commit", "-qm", "First")
    roots, settings.ARCHON_REPOSITORY_ROOTS = settings.ARCHON_REPOSITORY_ROOTS, [str(stage.folder)]
    project_id, session_id = uuid.uuid4(), uuid.uuid4()
    try:
        base = repository_import_path(project_id=project_id, source=str(source)).head_commit
        worktree = worktree_create(project_id=project_id, session_id=session_id, branch="archon/s", base_commit=base)
        (source / "src" / "a.py").write_text("changed by somebody else\n")
        _git(source, "commit", "-qam", "Second")
        repository_import_path(project_id=project_id, source=str(source))
        yield project_id, worktree
    finally:
        session_files_delete(session_id=session_id)
        repository_delete(project_id=project_id)
        settings.ARCHON_REPOSITORY_ROOTS = roots


def _server_works(stage: Stage, project_id: uuid.UUID, worktree: Worktree) -> str:
    """All that the server does with a worktree and a branch; a refusal is an answer, too."""
    base = worktree.base_commit
    worktree_changed_files(worktree=worktree)
    worktree_snapshot_commit(worktree=worktree)
    commit = worktree_commit(worktree=worktree, message="Change", parent=base, timestamp=_NOON).commit
    assert commit is not None, "the agent's change was not committed"
    diff_read(project_id=project_id, base=base, head=commit)
    patch_make(project_id=project_id, base=base, head=commit).unlink()
    branch_bundle(project_id=project_id, branch=worktree.branch, base=base).unlink()
    history = RepositoryHistory(project_id=project_id, branch=worktree.branch, base_commit=base)
    history.log(revision="HEAD", path="", contains="", skip=0, limit=5, max_bytes=10_000)
    history.show(revision="HEAD", path="", max_bytes=10_000)
    history.blame(revision="HEAD", path="src/a.py", first=1, last=1, max_bytes=10_000)
    target = commit_resolve(project_id=project_id, revision="main")
    said = ["snapshot", "commit", "diff", "history"]
    for name, work in (
        ("merge", lambda: branch_merge(project_id=project_id, branch=worktree.branch, into="main", expected=target)),
        ("rebase", lambda: branch_replay(project_id=project_id, head=commit, onto=target)),
    ):
        with suppress(ApplicationError):
            work()
        said.append(name)
    checkout_export(project_id=project_id, commit=commit, destination=stage.folder / "export")
    worktree_reset(worktree=worktree, commit=base)
    return shown(", ".join([*said, "checkout", "reset"]))


def _plain_works(copy: Path) -> None:
    """The same by plain git, in the agent's own repository."""
    # What is planted may make any of these fail; the mark is there all the same.
    run = partial(_git, copy, check=False)
    base = run("rev-parse", "HEAD")
    run("status")
    _git(copy / "src", "status", check=False)
    run("add", "-A")
    run("commit", "-qm", "Change")
    run("-c", "commit.gpgSign=false", "commit", "-qm", "Change")
    run("--no-pager", "diff", base)
    run("--no-pager", "log", "-p", "-1")
    ours = run("rev-parse", "HEAD")
    run("checkout", "-qf", "-b", "other", base)
    (copy / "src").mkdir(exist_ok=True)
    (copy / "src" / "a.py").write_text("changed by somebody else\n")
    run("-c", "commit.gpgSign=false", "commit", "-qm", "Second", "src/a.py")
    run("merge", "-q", "-m", "Merge", ours)
    run("checkout", "-qf", ours)


def _git(folder: Path, *arguments: str, check: bool = True) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **_IDENTITY}
    # Only whose folder it is doesn't matter here; all else is git as it comes.
    command = ["git", "-c", "safe.directory=*", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, check=check, capture_output=True, timeout=60)
    return result.stdout.decode(errors="replace").strip()


ATTEMPTS: dict[str, Attempt] = {f"git: {kind}": partial(planted, kind=kind) for kind in _KINDS}
