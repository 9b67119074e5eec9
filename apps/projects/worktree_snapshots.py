"""How a session's files were after each step: trees in the server's repository, and the way back to one of them.

A chain of commits under one ref for each of the session's worktrees keeps the trees. No branch leads there, so neither
the agent's copy of the history nor a bundle has any of it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from apps.projects.git import NO_DATE, GitError, git_identity, git_run
from apps.projects.repository import repository_path
from apps.projects.repository_store import refs_read
from apps.projects.workspace import WorkspaceError, Worktree
from apps.projects.worktree import worktree_delete, worktree_reset, worktree_snapshot
from integrations.posix import fcntl

logger = logging.getLogger(__name__)

SNAPSHOT_REFS = "refs/archon/sessions"
#: The same of worktrees beside the session's own, one below each session's name.
LANE_REFS = "refs/archon/lanes"
_LOOK_SECONDS = 0.05


def tree_of(*, worktree: Worktree, revision: str) -> str:
    """The tree of a commit (or of itself); empty when it is gone."""
    found = git_run(
        "rev-parse", "--verify", "--quiet", f"{revision}^{{tree}}", git_dir=worktree.git_dir, accepted=(0, 1, 128)
    )
    return found.text if found.returncode == 0 else ""


def snapshot_keep(*, worktree: Worktree, session_id: object, known: str, lane: str = "") -> str:
    """The tree of the worktree as it is, kept until the session's snapshots are deleted; ``known`` is kept already.

    ``lane``: which of the session's worktrees it is; empty: its own. Files too large for a commit are left out. Raises
    WorkspaceError for files that can't be kept.
    """
    tree = worktree_snapshot(worktree=worktree, leave_out_huge=True)
    if tree == known:
        return tree
    try:
        _chain(worktree.git_dir, _ref(session_id, lane), tree)
    except GitError as error:
        raise WorkspaceError(f"the files can't be kept: {error.stderr[-500:]}") from error
    return tree


def state_keep(*, project_id: object, session_id: object, tree: str, lane: str) -> None:
    """Keep a tree that a lane's files are to be, as its snapshots are kept."""
    _chain(repository_path(project_id=project_id), _ref(session_id, lane), tree)


def snapshots_delete(*, project_id: object, session_id: object) -> None:
    """Let go of a session's snapshots, its lanes' included: nothing leads back to them any more. Gone is fine."""
    git_dir = repository_path(project_id=project_id)
    if git_dir.exists():
        lanes = refs_read(git_dir, f"{LANE_REFS}/{session_id}/")
        for ref in (_ref(session_id), *(_ref(session_id, lane) for lane in lanes)):
            git_run("update-ref", "-d", ref, git_dir=git_dir)


def worktree_restore(*, worktree: Worktree, tree: str, head: str) -> bool:
    """Put the branch at ``head`` and the files to ``tree``, what git ignores aside. Doing it again changes nothing.

    Files that were made such that they can't be put back are no hindrance: the checkout is deleted then, and has to be
    made anew before this is called again. Whether it stands.
    """
    _branch_put(worktree.git_dir, worktree.branch, head)
    try:
        worktree_reset(worktree=worktree, commit=tree, head=head)
    except (GitError, OSError) as error:
        logger.warning("the files in %s could not be put back in place: %s", worktree.path, error)
        worktree_delete(worktree=worktree)
        return False
    return True


def branch_put(*, project_id: object, branch: str, commit: str) -> None:
    """Have a session's branch at this commit, wherever it is."""
    _branch_put(repository_path(project_id=project_id), branch, commit)


def worktree_take(session_id: object, name: str = "main") -> int | None:
    """Take a worktree for oneself, if nobody has it: a descriptor to close when done. It ends with the process.

    Whoever runs commands in it or puts files back holds it, so that a worker that is still letting go of a session
    isn't met by the one that comes after it.
    """
    folder: Path = settings.ARCHON_HOME / "worktrees" / str(session_id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def worktree_taken(session_id: object, *, seconds: float) -> Iterator[bool]:
    """Have a worktree for oneself, if it is free within so long; False otherwise."""
    deadline = time.monotonic() + seconds
    while (descriptor := worktree_take(session_id)) is None and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _branch_put(git_dir: Path, branch: str, commit: str) -> None:
    git_run("update-ref", f"refs/heads/{branch}", commit, git_dir=git_dir)


def _chain(git_dir: Path, ref: str, tree: str) -> None:
    last = git_run("rev-parse", "--verify", "--quiet", ref, git_dir=git_dir, accepted=(0, 1)).text
    parents = ("-p", last) if last else ()
    identity = git_identity(date=NO_DATE)
    commit = git_run("commit-tree", tree, *parents, "-m", "Snapshot", git_dir=git_dir, environment=identity).text
    git_run("update-ref", ref, commit, git_dir=git_dir)


def _ref(session_id: object, lane: str = "") -> str:
    return f"{LANE_REFS}/{session_id}/{lane}" if lane else f"{SNAPSHOT_REFS}/{session_id}"
