"""Worktrees beside a session's own, in which tasks are worked on side by side: their names, branches and what is kept.

A lane's branch lies beside the session's, since no ref can be below another, and is nobody's to see: it goes when the
lane is over. What a task has committed there stays, by a ref of the session's own, until the session is discarded.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from django.conf import settings

from apps.projects.git import git_run
from apps.projects.repository import repository_path
from apps.projects.repository_store import refs_read, refs_update
from apps.projects.worktree import tree_delete, worktree_path
from apps.projects.worktree_snapshots import LANE_REFS

KEPT_REFS = "refs/archon/kept"
_PREFIX = "task-"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def lane_name(*, key: str, task_id: uuid.UUID) -> str:
    """What the worktree of a task is called: by its key, where that can be part of a ref's name as it is."""
    return f"{_PREFIX}{key if _PLAIN.fullmatch(key) else task_id.hex}"


def lane_branch(*, branch: str, lane: str) -> str:
    """The branch of a lane, beside the session's."""
    return f"{branch}.{lane.removeprefix(_PREFIX)}"


def commit_keep(*, project_id: object, session_id: object, commit: str) -> None:
    """Have a commit stay until the session is discarded, whatever becomes of the branch that it is on."""
    git_dir = repository_path(project_id=project_id)
    git_run("update-ref", f"{KEPT_REFS}/{session_id}/{commit}", commit, git_dir=git_dir)


def lane_clear(*, project_id: object, session_id: object, branch: str, lane: str) -> None:
    """Remove a lane's checkout and branch. Its commits and the states of its files stay; gone is fine.

    The lane's lock stays as well: whoever holds it has the file open, and nobody else may take another of that name.
    """
    index = Path(settings.ARCHON_HOME) / "worktrees" / str(session_id) / f"{lane}.index"
    # The index first: where it stands the checkout is whole.
    for leftover in (index, index.with_suffix(".exclude"), index.with_suffix(".fresh")):
        leftover.unlink(missing_ok=True)
    tree_delete(worktree_path(session_id=session_id, name=lane))
    tree_delete(worktree_path(session_id=session_id, name=attachments_name(lane)))
    git_dir = repository_path(project_id=project_id)
    if git_dir.exists():
        git_run("update-ref", "-d", f"refs/heads/{lane_branch(branch=branch, lane=lane)}", git_dir=git_dir)


def lanes_list(*, session_id: object) -> tuple[str, ...]:
    """The lanes of a session that have a checkout here."""
    folder = worktree_path(session_id=session_id).parent
    found = folder.iterdir() if folder.is_dir() else ()
    return tuple(sorted(entry.name for entry in found if entry.name.startswith(_PREFIX)))


def lanes_delete(*, project_id: object, session_id: object, branch: str) -> None:
    """Let go of all that a session's lanes have left in the repository: branches, states of files, commits."""
    git_dir = repository_path(project_id=project_id)
    if not git_dir.exists():
        return
    prefixes = (f"{LANE_REFS}/{session_id}/", f"{KEPT_REFS}/{session_id}/")
    found = [f"{prefix}{name}" for prefix in prefixes for name in refs_read(git_dir, prefix)]
    found += [f"refs/heads/{name}" for name in refs_read(git_dir, "refs/heads/") if name.startswith(f"{branch}.")]
    refs_update(git_dir, [f"delete {ref}\0\0" for ref in found])


def attachments_name(worktree: str) -> str:
    """Where beside a worktree lies what its sandbox gets of the session's attachments."""
    return "attachments" if worktree == "main" else f"attachments-{worktree}"
