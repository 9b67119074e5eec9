"""A session's checkout: made from the server's repository, written by an agent, and read back without being believed.

git runs with the repository and the index that the server owns; the ``.git`` that the agent sees is a copy of its
branch's history, there to be looked at, replaced after every commit and never read. Nothing of these functions may
run while a command runs in the worktree's sandbox: the caller sees to that.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings

from apps.core.errors import Conflict, NotFound, TooLarge
from apps.core.kill_points import kill_point
from apps.core.redaction import Redactor
from apps.projects.git import (
    NO_DATE,
    GitError,
    GitResult,
    full_disk_told,
    git_identity,
    git_run,
    path_decode,
    path_display,
    upload_pack_command,
)
from apps.projects.repository import IGNORED_LEFTOVERS, repository_path
from apps.projects.repository_diff import FileChange, changes_read
from apps.projects.repository_modules import modules_bytes, modules_checkout
from apps.projects.sandbox.owners import sandbox_owner
from apps.projects.workspace import WorkspaceError, Worktree
from integrations.embedded.reach import runtime_root

#: The largest file that an agent may add to a commit.
MAX_FILE_BYTES = 20 * 1024 * 1024
#: A history with more than this is cut to its newest commits in the copy that an agent sees.
_HISTORY_BYTES = 200 * 1024 * 1024
_HISTORY_DEPTH = 200
_CHECKOUT_SECONDS = 600


@dataclass(frozen=True)
class CommitResult:
    #: None when the worktree is as its parent left it.
    commit: str | None
    files: tuple[FileChange, ...]


def worktree_path(*, session_id: object, name: str = "main") -> Path:
    """Where a session's worktree is, or will be."""
    return runtime_root(settings.ARCHON_HOME) / "workspaces" / str(session_id) / name


def worktree_create(
    *, project_id: object, session_id: object, name: str = "main", branch: str, base_commit: str
) -> Worktree:
    """A checkout of ``branch``, which starts at ``base_commit`` when it isn't there yet. Found again on a replay."""
    git_dir = repository_path(project_id=project_id)
    if not git_dir.exists():
        raise NotFound("The project has no repository yet", next_step="Import a folder or upload a git bundle.")
    path = worktree_path(session_id=session_id, name=name)
    index = settings.ARCHON_HOME / "worktrees" / str(session_id) / f"{name}.index"
    worktree = Worktree(path=path, git_dir=git_dir, index=index, branch=branch, base_commit=base_commit)
    tip = _branch_tip(git_dir, branch)
    if tip is None:
        git_run("update-ref", f"refs/heads/{branch}", base_commit, "0" * 40, git_dir=git_dir)
        tip = base_commit
    # The index comes last, so that where it stands the checkout is whole.
    if index.exists() and path.is_dir():
        return worktree
    index.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    index.unlink(missing_ok=True)
    tree_delete(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    fresh = index.with_suffix(".fresh")
    try:
        _checkout(git_dir, tip, path, fresh)
        _history_write(worktree, tip, fresh)
        fresh.rename(index)
    except BaseException:
        fresh.unlink(missing_ok=True)
        tree_delete(path)
        raise
    return worktree


def worktree_exclude(*, worktree: Worktree, paths: tuple[str, ...]) -> None:
    """Keep files out of every snapshot of this worktree, such as those that the environment's set-up made."""
    quoted = (path.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?").replace("[", "\\[") for path in paths)
    _exclude_file(worktree).write_text("".join(f"/{path}\n" for path in quoted), "utf-8", "surrogateescape")


def worktree_snapshot(*, worktree: Worktree, max_file_bytes: int = MAX_FILE_BYTES, leave_out_huge: bool = False) -> str:
    """The id of a tree that holds the worktree as it is, without what git ignores.

    A repository inside it is taken as plain files, its ``.git`` left out. Files over ``max_file_bytes`` (unless they
    are to be left out) and files that can't be read raise WorkspaceError, which names them.
    """
    listing = _git(worktree, "ls-files", "-z", "--others", "--modified", "--deleted", "--exclude-standard").stdout
    listed = dict.fromkeys(path_decode(entry) for entry in listing.split(b"\0") if entry)
    replaced = _files_replaced(worktree, listed)
    changed = [f"{entry}/" if entry in replaced else entry for entry in listed]
    # A folder in this list is a repository of its own.
    embedded = [entry for entry in changed if entry.endswith("/")]
    plain = [path for folder in embedded for path in _embedded_files(worktree, folder)]
    sizes = {path: _file_size(worktree.path / path) for path in (*changed, *plain)}
    huge = {path: size for path, size in sizes.items() if size > max_file_bytes}
    if huge and not leave_out_huge:
        named = ", ".join(f"{path_display(path)} ({size >> 20} MiB)" for path, size in sorted(huge.items())[:10])
        raise WorkspaceError(
            f"Files larger than {max_file_bytes >> 20} MiB can't be kept: {named}. "
            "Delete them, or name them in .gitignore."
        )
    try:
        plain = [path for path in plain if path not in huge]
        if len([path for path in changed if path not in huge]) > len(embedded):
            left_out = [*(folder.rstrip("/") for folder in embedded), *huge]
            excluded = [f":(exclude,literal){path}" for path in left_out]
            _git(worktree, "add", "--all", "--", ".", *excluded)
        if replaced:
            _git(worktree, "update-index", "--force-remove", "-z", "--stdin", stdin=_paths_encode(replaced))
        if plain:
            _git(worktree, "update-index", "--add", "--replace", "-z", "--stdin", stdin=_paths_encode(plain))
        return _git(worktree, "write-tree").text
    except GitError as error:
        raise WorkspaceError(f"The changes can't be kept: {path_display(error.stderr[-1000:])}") from error


def worktree_snapshot_commit(*, worktree: Worktree) -> str:
    """A commit that holds the worktree as it is, on no branch: for checks of work that isn't finished."""
    tree = worktree_snapshot(worktree=worktree)
    parent = _branch_tip(worktree.git_dir, worktree.branch) or worktree.base_commit
    identity = git_identity(date=NO_DATE)
    return git_run(
        "commit-tree", tree, "-p", parent, "-m", "Snapshot", git_dir=worktree.git_dir, environment=identity
    ).text


def worktree_changed_files(*, worktree: Worktree, base: str = "") -> tuple[FileChange, ...]:
    """What is different from ``base`` (without it: from the branch's last commit)."""
    tree = worktree_snapshot(worktree=worktree)
    return changes_read(
        git_dir=worktree.git_dir,
        base=base or _branch_tip(worktree.git_dir, worktree.branch) or worktree.base_commit,
        head=tree,
    )


def worktree_commit(
    *,
    worktree: Worktree,
    message: str,
    parent: str,
    timestamp: datetime,
    replaces: str = "",
    author: str = "Archon <archon@localhost>",
) -> CommitResult:
    """Commit the worktree on top of ``parent`` and move the branch there; it may stand at ``replaces`` so far.

    The same content, parent, message and timestamp give the same commit, so a replay finds what it made. A branch
    that is neither at ``replaces`` (without it: ``parent``) nor at that commit raises Conflict.
    """
    tree = worktree_snapshot(worktree=worktree)
    tip = _branch_tip(worktree.git_dir, worktree.branch)
    expected = replaces or parent
    if tree == git_run("rev-parse", f"{parent}^{{tree}}", git_dir=worktree.git_dir).text:
        # What an earlier attempt left on the branch goes: nobody looked at it as the result.
        if tip != parent:
            _branch_move(worktree, parent, expected)
        return CommitResult(None, ())
    name, _, address = author.partition("<")
    moment = f"@{int(timestamp.timestamp())} +0000"
    identity = git_identity(name=name.strip(), address=address.rstrip("> "), date=moment)
    text = (message.strip() or "Change files").encode("utf-8", "replace") + b"\n"
    commit = git_run(
        "commit-tree", tree, "-p", parent, "-F", "-", git_dir=worktree.git_dir, environment=identity, stdin=text
    ).text
    kill_point("commit.made")
    if tip != commit:
        _branch_move(worktree, commit, expected)
    return CommitResult(commit, changes_read(git_dir=worktree.git_dir, base=parent, head=commit))


def secrets_refuse(*, worktree: Worktree, base: str, redactor: Redactor) -> None:
    """WorkspaceError, with the files' names, when what is different from ``base`` holds the value of a secret."""
    tree = worktree_snapshot(worktree=worktree)
    listing = git_run("diff-tree", "-r", "-z", "--no-renames", base, tree, git_dir=worktree.git_dir).stdout.split(b"\0")
    found = []
    for entry, raw_path in zip(listing[::2], listing[1::2], strict=False):
        _, mode, _, blob, _ = entry.split(b" ")
        content = b"" if mode in (b"000000", b"160000") else _blob(worktree.git_dir, blob.decode())
        if redactor.data(content) != content or redactor.data(raw_path) != raw_path:
            found.append(redactor.text(path_display(path_decode(raw_path))))
    if found:
        raise WorkspaceError(
            f"What can't be committed, since it holds the value of a secret: {', '.join(found[:10])}. Have the code "
            "read the secret from its variable, or keep the file out by .gitignore."
        )


def _blob(git_dir: Path, blob: str) -> bytes:
    return git_run("cat-file", "blob", blob, git_dir=git_dir).stdout


def _branch_move(worktree: Worktree, commit: str, expected: str) -> None:
    """Move the branch, and what the agent sees of it."""
    try:
        git_run("update-ref", f"refs/heads/{worktree.branch}", commit, expected, git_dir=worktree.git_dir)
    except GitError as error:
        tip = _branch_tip(worktree.git_dir, worktree.branch)
        # A worker that lost the session a moment ago may have made the same commit.
        if tip != commit:
            raise Conflict(
                f"{worktree.branch} has moved: it is at {(tip or 'no commit')[:12]}, not at {expected[:12]}",
                state="branch_moved",
            ) from error
    kill_point("commit.moved")
    _history_write(worktree, commit, worktree.index)


def worktree_reset(*, worktree: Worktree, commit: str, head: str = "") -> None:
    """Make the files those of ``commit`` again, new ones removed, ignored ones kept; the branch stays where it is.

    ``commit`` may be a tree; ``head`` is the commit that the agent's copy of the history ends at, if another one.
    """
    _git(worktree, "read-tree", "--reset", "-u", commit, timeout=_CHECKOUT_SECONDS)
    _git(worktree, "clean", "-ffdq", timeout=_CHECKOUT_SECONDS)
    tree_own(worktree.path)
    _git(worktree, "update-index", "-q", "--refresh", accepted=(0, 1))
    if not head or head == commit:
        _history_write(worktree, commit, worktree.index)
        return
    # To the agent the rest is uncommitted work, as it was.
    index = worktree.index.with_suffix(".shown")
    try:
        git_run("read-tree", head, git_dir=worktree.git_dir, index=index)
        shown = dataclasses.replace(worktree, index=index)
        _git(shown, "update-index", "-q", "--refresh", accepted=(0, 1))
        _history_write(worktree, head, index)
    finally:
        index.unlink(missing_ok=True)


def worktree_delete(*, worktree: Worktree) -> None:
    """Remove the checkout; its branch stays. One that is gone is fine."""
    for leftover in (worktree.index, _exclude_file(worktree), worktree.index.with_suffix(".fresh")):
        leftover.unlink(missing_ok=True)
    tree_delete(worktree.path)
    for folder in (worktree.path.parent, worktree.index.parent):
        try:
            folder.rmdir()
        except OSError:
            # The session has other worktrees.
            continue


def session_files_list(*, home: Path) -> list[uuid.UUID]:
    """The sessions that have files here."""
    found = set()
    for folder in (runtime_root(home) / "workspaces", home / "worktrees"):
        for entry in folder.iterdir() if folder.is_dir() else ():
            try:
                found.add(uuid.UUID(entry.name))
            except ValueError:
                # Not a session's.
                continue
    return sorted(found)


def session_server_path(*, session_id: object) -> Path:
    """What the server keeps of a session beside its checkouts, out of every sandbox's reach; goes with them."""
    return Path(settings.ARCHON_HOME) / "worktrees" / str(session_id)


def session_files_delete(*, session_id: object) -> None:
    """Remove every checkout of a session and what the server keeps beside them; gone is fine."""
    tree_delete(worktree_path(session_id=session_id).parent)
    tree_delete(session_server_path(session_id=session_id))


def checkout_export(*, project_id: object, commit: str, destination: Path, depth: int | None = 1) -> None:
    """A clean checkout that belongs to the sandbox's user, with a ``.git`` of the newest ``depth`` commits.

    Checks get a little history, since tests ask git things; a set-up gets all (``None``), since it may derive the
    version from the tags.
    """
    git_dir = repository_path(project_id=project_id)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="checkout-", dir=_server_folder("temporary")) as apart:
        index = Path(apart) / "index"
        _checkout(git_dir, commit, destination, index)
        worktree = Worktree(path=destination, git_dir=git_dir, index=index, branch="main", base_commit=commit)
        _history_write(worktree, commit, index, depth=depth)


# --- Files on disk ----------------------------------------------------------------------------------------------------


def tree_own(path: Path, owner: int | None = None) -> None:
    """Give a folder to the user that its sandboxes run as (or to ``owner``); nothing to do unless we are root."""
    owner = sandbox_owner(path) if owner is None else owner
    if owner is None:
        return
    for _, folders, files, handle in os.fwalk(path, follow_symlinks=False):
        if os.fstat(handle).st_uid != owner:
            os.fchown(handle, owner, owner)
        for entry in (*folders, *files):
            if os.stat(entry, dir_fd=handle, follow_symlinks=False).st_uid != owner:
                os.chown(entry, owner, owner, dir_fd=handle, follow_symlinks=False)


def tree_delete(path: Path) -> None:
    """Remove a folder whatever an agent made of it (a link, folders without permissions); a missing one is fine."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if os.geteuid() != 0 and path.is_dir():
        os.chmod(path, 0o700)
        for folder, folders, _ in os.walk(path):
            for entry in folders:
                inner = os.path.join(folder, entry)
                if not os.path.islink(inner):
                    os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path)


def _checkout(git_dir: Path, commit: str, path: Path, index: Path) -> None:
    """Write a commit's files into a new folder, given to the sandbox's user, and an index that knows them."""
    limit = settings.ARCHON_SANDBOX_DISK_MB * 1024 * 1024
    listing = git_run("ls-tree", "-r", "-l", "-z", "--full-tree", commit, git_dir=git_dir).stdout
    size = sum(int(entry.split(b"\t", 1)[0].split()[3].replace(b"-", b"0")) for entry in listing.split(b"\0") if entry)
    size += modules_bytes(git_dir=git_dir, commit=commit)
    if size > limit:
        raise TooLarge(
            f"The files take {size >> 20} MiB, more than the {settings.ARCHON_SANDBOX_DISK_MB} MiB of a sandbox",
            next_step="Have the operator raise ARCHON_SANDBOX_DISK_MB.",
        )
    path.mkdir(mode=0o700)
    git_run("read-tree", commit, git_dir=git_dir, index=index)
    git_run(
        "checkout-index", "--all", "--force", git_dir=git_dir, work_tree=path, index=index, timeout=_CHECKOUT_SECONDS
    )
    modules_checkout(git_dir=git_dir, commit=commit, path=path)
    tree_own(path)
    # Changing the owner changed what the index remembers of each file.
    git_run("update-index", "-q", "--refresh", git_dir=git_dir, work_tree=path, index=index, accepted=(0, 1))


def _history_write(worktree: Worktree, commit: str, index: Path, depth: int | None = None) -> None:
    """Put a fresh, disposable ``.git`` into the worktree: a copy that shares no file with the server's repository."""
    with (
        full_disk_told("the worktree's history could not be copied"),
        tempfile.TemporaryDirectory(prefix=".history-", dir=worktree.path.parent) as apart,
    ):
        fresh = Path(apart) / "git"
        for folder in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
            (fresh / folder).mkdir(parents=True)
        (fresh / "HEAD").write_text(f"ref: refs/heads/{worktree.branch}\n")
        (fresh / "config").write_text(
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
            "\tcheckStat = minimal\n\ttrustctime = false\n[user]\n\tname = Archon\n\temail = archon@localhost\n"
            "[gc]\n\tauto = 0\n"
        )
        exclude = _exclude_file(worktree)
        generated = exclude.read_text("utf-8", "surrogateescape") if exclude.exists() else ""
        (fresh / "info" / "exclude").write_text(IGNORED_LEFTOVERS + generated, "utf-8", "surrogateescape")
        if depth is None and _packed_bytes(worktree.git_dir) > _HISTORY_BYTES:
            depth = _HISTORY_DEPTH
        git_run(
            "fetch", "--quiet", "--no-write-fetch-head", "--update-head-ok", "--update-shallow",
            f"--upload-pack={upload_pack_command()}", *([f"--depth={depth}"] if depth else []),
            str(worktree.git_dir), f"+{commit}:refs/heads/{worktree.branch}",
            git_dir=fresh, configuration=("transfer.fsckObjects=false",), protocol="file",
            timeout=_CHECKOUT_SECONDS,
        )  # fmt: skip
        shutil.copyfile(index, fresh / "index")
        tree_own(fresh, sandbox_owner(worktree.path))
        # Renames touch no link that an agent may have put there; what was there goes with the temporary folder.
        target = worktree.path / ".git"
        if os.path.lexists(target):
            target.rename(Path(apart) / "old")
        fresh.rename(target)
        tree_delete(Path(apart) / "old")


def _git(
    worktree: Worktree,
    *arguments: str,
    stdin: bytes | None = None,
    timeout: float = 120,
    accepted: tuple[int, ...] = (0,),
) -> GitResult:
    exclude = _exclude_file(worktree)
    return git_run(
        *arguments,
        git_dir=worktree.git_dir,
        work_tree=worktree.path,
        index=worktree.index,
        configuration=(f"core.excludesFile={exclude}",) if exclude.exists() else (),
        stdin=stdin,
        timeout=timeout,
        accepted=accepted,
    )


def _exclude_file(worktree: Worktree) -> Path:
    return worktree.index.with_suffix(".exclude")


def _branch_tip(git_dir: Path, branch: str) -> str | None:
    found = git_run("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", git_dir=git_dir, accepted=(0, 1))
    return found.text or None


def _files_replaced(worktree: Worktree, changed: Iterable[str]) -> list[str]:
    """Files and links of the index whose place a folder has taken that is a repository of its own.

    git would keep no more of such a folder than the name of its commit. A submodule has been one before.
    """
    found = [path for path in changed if not path.endswith("/") and _is_folder(worktree.path / path)]
    if not found:
        return found
    known = _git(worktree, "ls-files", "-z", "--stage", "--", *(f":(literal){path}" for path in found)).stdout
    modules = {path_decode(entry.partition(b"\t")[2]) for entry in known.split(b"\0") if entry.startswith(b"160000 ")}
    return [path for path in found if path not in modules]


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _paths_encode(paths: Iterable[str]) -> bytes:
    return "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")


def _embedded_files(worktree: Worktree, folder: str) -> list[str]:
    """The regular files and links of a repository inside the worktree, without ``.git`` and what git ignores."""
    found: list[str] = []
    for current, folders, files in os.walk(worktree.path / folder):
        folders[:] = [name for name in folders if name.lower() != ".git"]
        links = [name for name in folders if os.path.islink(os.path.join(current, name))]
        for name in (*files, *links):
            path = Path(current, name)
            if name.lower() != ".git" and stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFLNK):
                found.append(str(path.relative_to(worktree.path)))
    if not found:
        return found
    ignored = _git(worktree, "check-ignore", "-z", "--stdin", stdin=_paths_encode(found), accepted=(0, 1)).stdout
    skipped = {path_decode(path) for path in ignored.split(b"\0")}
    return [path for path in found if path not in skipped]


def _file_size(path: Path) -> int:
    try:
        entry = path.lstat()
    except OSError:
        # Deleted, or beyond a link that took a folder's place.
        return 0
    return entry.st_size if stat.S_ISREG(entry.st_mode) else 0


def _packed_bytes(git_dir: Path) -> int:
    return sum(pack.stat().st_size for pack in (git_dir / "objects" / "pack").glob("*.pack"))


def _server_folder(name: str) -> Path:
    folder: Path = settings.ARCHON_HOME / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
