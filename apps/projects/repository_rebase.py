"""Putting commits onto others than they were made on, within the server's own repository.

A whole branch onto where its base has moved to, or one task's commit onto what others have done meanwhile. Nothing is
checked out: each commit is merged as a tree (``git merge-tree``), so neither a filter nor a driver that a
repository names has a say, and no worktree is needed.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apps.core.errors import Conflict
from apps.projects.git import NO_DATE, GitError, git_identity, git_run, path_decode, path_display
from apps.projects.repository_store import is_ancestor, repository_require, temporary_folder

_REPLAY_SECONDS = 120
#: More commits than this are put onto the new base as one.
_COMMITS = 200
_PERSON = re.compile(r"(?P<name>.*) <(?P<email>[^<>]*)> (?P<time>\d+) (?P<zone>[+-]\d{4})")


class RebaseConflict(Conflict):
    """The branch and its new base change the same lines."""


@dataclass(frozen=True)
class Replayed:
    #: The commit that the branch is to be at.
    head: str
    #: Commits beyond the new base.
    commits: int


@dataclass(frozen=True)
class _Commit:
    tree: str
    parents: tuple[str, ...]
    author: str
    committer: str
    message: bytes


@dataclass(frozen=True)
class Carried:
    """A commit on top of another one than it was made on."""

    #: None: the two change the same lines.
    commit: str | None
    #: What the files are then; with marks in them where there is a conflict.
    tree: str
    #: Of a conflict: the files, what git says of each, and the names in its marks: of the new base, and of the commit.
    files: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


def commit_carry(*, project_id: object, commit: str, base: str, onto: str) -> Carried:
    """What ``commit`` changes against ``base``, as one commit on top of ``onto``; moves no branch.

    Author, message and dates stay, so the same arguments give the same commit: ``onto`` itself, where it has all of it
    already. A conflict is no failure here: its tree has git's marks where the same lines were changed, and where marks
    can't be (in links, in what is no text) the commit's own version beside the other, as ``PATH~MARK``.
    """
    git_dir = repository_require(project_id)
    merge = _merge(git_dir, base=base, ours=onto, theirs=commit)
    if merge.files:
        tree = _own_beside(git_dir, merge, base=base, ours=onto, theirs=commit)
        return Carried(None, tree, merge.files, merge.said, merge.sides)
    if merge.tree == _tree(git_dir, onto):
        return Carried(onto, merge.tree)
    made = _commit_write(git_dir, _commit_read(git_dir, commit), tree=merge.tree, parent=onto)
    return Carried(made, merge.tree)


def marks_left(*, project_id: object, commit: str, marks: Sequence[str], files: Sequence[str]) -> tuple[str, ...]:
    """The files in which ``commit`` still has a conflict's marks, with these names in them; of ``files``, or of all.

    So are files that bear such a mark in their own name: one side's version, which was put beside the other's.
    """
    git_dir = repository_require(project_id)
    patterns = [part for mark in marks for part in ("-e", f"^<<<<<<< {mark}", "-e", f"^>>>>>>> {mark}")]
    found = git_run(
        "grep", "-l", "-z", "--text", *patterns, commit, *(["--", *files] if files else []),
        git_dir=git_dir, environment={"GIT_LITERAL_PATHSPECS": "1"}, accepted=(0, 1),
    ).stdout  # fmt: skip
    names = [path_decode(entry).partition(":")[2] for entry in found.split(b"\0") if entry]
    every = git_run("ls-tree", "-r", "-z", "--name-only", commit, git_dir=git_dir).stdout.split(b"\0")
    beside = tuple(f"~{mark}".encode() for mark in marks)
    names += [path_decode(name) for name in every if any(mark in name for mark in beside)]
    return tuple(path_display(name) for name in dict.fromkeys(names))


def commits_between(*, project_id: object, base: str, head: str) -> tuple[str, ...]:
    """The commits that ``head`` has beyond ``base``, the oldest first."""
    listing = git_run("rev-list", "--reverse", f"{base}..{head}", git_dir=repository_require(project_id)).text
    return tuple(listing.split())


def branch_replay(*, project_id: object, head: str, onto: str) -> Replayed:
    """Make the commits that ``head`` has beyond ``onto`` anew on top of that; moves no branch.

    Authors, messages and dates stay, so the same arguments give the same commits. One by one, or all of them as one
    where they only fit together. RebaseConflict names the files that don't fit; Conflict (``nothing_left``) says that
    ``onto`` has all of it already.
    """
    git_dir = repository_require(project_id)
    if is_ancestor(git_dir, onto, head):
        return Replayed(head, _count(git_dir, onto, head))
    listing = git_run("rev-list", "--reverse", "--topo-order", "--no-merges", f"{onto}..{head}", git_dir=git_dir)
    commits = listing.text.split()
    current, made = onto, 0
    try:
        if len(commits) > _COMMITS:
            raise RebaseConflict("there are too many commits to carry each over", state="rebase_conflict")
        for commit in commits:
            following = _carried_over(git_dir, commit, current)
            made += following != current
            current = following
    except RebaseConflict:
        # Later commits may have made up for what an earlier one can't be put on.
        current, made = _as_one(git_dir, head, onto), 1
    if _tree(git_dir, current) == _tree(git_dir, onto):
        raise Conflict(
            "all that the branch changes is there already",
            next_step="discard the session, or write to it with what is still missing",
            state="nothing_left",
        )
    return Replayed(current, made)


def branch_move(*, project_id: object, branch: str, commit: str, expected: str) -> None:
    """Have a branch be at a commit; at it already is fine, anywhere but at ``expected`` raises Conflict."""
    git_dir = repository_require(project_id)
    found = git_run("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", git_dir=git_dir, accepted=(0, 1)).text
    if found == commit:
        return
    try:
        git_run("update-ref", f"refs/heads/{branch}", commit, expected, git_dir=git_dir)
    except GitError as error:
        raise Conflict(
            f"{branch} has moved: it is at {(found or 'no commit')[:12]}, not at {expected[:12]}", state="branch_moved"
        ) from error


def _carried_over(git_dir: Path, commit: str, onto: str) -> str:
    """One commit on top of another base; that base itself where nothing of it is left."""
    read = _commit_read(git_dir, commit)
    if not read.parents:
        # A root commit is not to be told from a project of its own.
        raise RebaseConflict("the branch has a history of its own", state="rebase_conflict")
    tree = _merged(git_dir, base=read.parents[0], ours=onto, theirs=commit)
    if tree == _tree(git_dir, onto):
        return onto
    return _commit_write(git_dir, read, tree=tree, parent=onto)


def _as_one(git_dir: Path, head: str, onto: str) -> str:
    """All that the branch changes, as one commit with the last one's words."""
    read = _commit_read(git_dir, head)
    base = git_run("merge-base", onto, head, git_dir=git_dir, accepted=(0, 1)).text
    if not base:
        raise RebaseConflict("the branch and its new base have no history in common", state="rebase_conflict")
    return _commit_write(git_dir, read, tree=_merged(git_dir, base=base, ours=onto, theirs=head), parent=onto)


@dataclass(frozen=True)
class _Merge:
    tree: str
    #: Those in conflict, and what git says of them.
    files: tuple[str, ...]
    said: tuple[str, ...]
    #: What the sides are named in the marks.
    sides: tuple[str, str]


def _merged(git_dir: Path, *, base: str, ours: str, theirs: str) -> str:
    """The tree of a three-way merge. Conflicts raise RebaseConflict, which names the files."""
    merge = _merge(git_dir, base=base, ours=ours, theirs=theirs)
    if merge.files:
        raise _conflict([path_display(path) for path in merge.files])
    return merge.tree


def _merge(git_dir: Path, *, base: str, ours: str, theirs: str) -> _Merge:
    # This git's merge-tree finds the base by itself: both sides are given the wanted one as their only parent.
    one, other = (_stand_in(git_dir, _tree(git_dir, side), base) for side in (ours, theirs))
    result = git_run(
        "merge-tree", "--write-tree", "-z", "--name-only", one, other,
        git_dir=git_dir, accepted=(0, 1), timeout=_REPLAY_SECONDS,
    )  # fmt: skip
    names, _, messages = result.stdout.partition(b"\0\0")
    tree, *conflicting = names.rstrip(b"\0").split(b"\0")
    if not result.returncode:
        return _Merge(tree.decode(), (), (), (one, other))
    files = tuple(dict.fromkeys(path_decode(path) for path in conflicting))
    # Each is the number of its paths, those, its kind and its words.
    said = [part.decode("utf-8", "replace").strip() for part in messages.split(b"\0")]
    conflicts = tuple(part for part in said if part.startswith("CONFLICT (") and ": " in part)
    return _Merge(tree.decode(), files, conflicts, (one, other))


def _own_beside(git_dir: Path, merge: _Merge, *, base: str, ours: str, theirs: str) -> str:
    """The tree of a conflict, with what ``theirs`` has in files that git left as ``ours`` has them."""
    sides = [_entries(git_dir, tree, merge.files) for tree in (merge.tree, base, ours, theirs)]
    lines = b""
    for path in merge.files:
        made, former, our, their = (side.get(path, b"") for side in sides)
        if their and made == our and their not in (our, former):
            lines += their + b"\t" + f"{path}~{merge.sides[1]}".encode("utf-8", "surrogateescape") + b"\0"
    if not lines:
        return merge.tree
    with tempfile.TemporaryDirectory(prefix="merge-", dir=temporary_folder()) as folder:
        index = Path(folder) / "index"
        git_run("read-tree", merge.tree, git_dir=git_dir, index=index)
        git_run("update-index", "-z", "--index-info", git_dir=git_dir, index=index, stdin=lines)
        return git_run("write-tree", git_dir=git_dir, index=index).text


def _entries(git_dir: Path, tree: str, paths: Sequence[str]) -> dict[str, bytes]:
    """What a tree has at these paths, as ``MODE TYPE ID``."""
    wanted = set(paths)
    listing = git_run("ls-tree", "-r", "-z", tree, git_dir=git_dir).stdout.split(b"\0")
    rows = (entry.partition(b"\t") for entry in listing if entry)
    return {name: what for what, _, raw in rows if (name := path_decode(raw)) in wanted}


def _conflict(files: Sequence[str]) -> RebaseConflict:
    more = f" and {len(files) - 5} more" if len(files) > 5 else ""
    return RebaseConflict(
        f"the branch and what it is to be put onto change the same lines in {', '.join(files[:5])}{more}",
        state="rebase_conflict",
        files=list(files),
    )


def _stand_in(git_dir: Path, tree: str, parent: str) -> str:
    identity = git_identity(date=NO_DATE)
    return git_run("commit-tree", tree, "-p", parent, "-m", "Side", git_dir=git_dir, environment=identity).text


def _commit_read(git_dir: Path, commit: str) -> _Commit:
    head, _, message = git_run("cat-file", "commit", commit, git_dir=git_dir).stdout.partition(b"\n\n")
    fields: dict[str, list[str]] = {}
    for line in head.decode("utf-8", "surrogateescape").split("\n"):
        if not line.startswith(" "):
            name, _, value = line.partition(" ")
            fields.setdefault(name, []).append(value)
    return _Commit(
        fields["tree"][0], tuple(fields.get("parent", ())), fields["author"][0], fields["committer"][0], message
    )


def _commit_write(git_dir: Path, like: _Commit, *, tree: str, parent: str) -> str:
    author, committer = _PERSON.fullmatch(like.author), _PERSON.fullmatch(like.committer)
    time = f"@{committer['time']} {committer['zone']}" if committer else NO_DATE
    identity = git_identity(date=time)
    identity["GIT_AUTHOR_NAME"] = (author["name"] if author else "") or "unknown"
    identity["GIT_AUTHOR_EMAIL"] = author["email"] if author else ""
    if author:
        identity["GIT_AUTHOR_DATE"] = f"@{author['time']} {author['zone']}"
    return git_run(
        "commit-tree", tree, "-p", parent, "-F", "-", git_dir=git_dir, environment=identity, stdin=like.message
    ).text


def _tree(git_dir: Path, commit: str) -> str:
    return git_run("rev-parse", f"{commit}^{{tree}}", git_dir=git_dir).text


def _count(git_dir: Path, base: str, head: str) -> int:
    return int(git_run("rev-list", "--count", f"{base}..{head}", git_dir=git_dir).text)
