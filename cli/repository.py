"""The user's own git repository: looked at and packed, and written to only by ``archon fetch``."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CliError

# Variables that would point git at another repository than the one that was named.
_REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
)


@dataclass(frozen=True)
class LocalRepository:
    """A git work tree with at least one commit; only what is committed counts."""

    path: Path
    #: The branch that HEAD is on; `detached-…` when it is on none.
    branch: str
    detached: bool
    head_commit: str
    #: How many files differ from the commit, untracked ones included.
    changed_files: int


def repository_open(path: Path) -> LocalRepository:
    """Look at the repository around ``path``, changing nothing; CliError says what it lacks."""
    path = path.expanduser()
    if not path.exists():
        raise CliError(f"there is no {path}", next_step="name a folder with --repo", code="repository_missing")
    if not path.is_dir():
        raise CliError(f"{path} is not a folder", next_step="name a folder with --repo", code="repository_missing")
    path = path.resolve()
    top = _git(path, "rev-parse", "--show-toplevel", check=False)
    if top.returncode != 0:
        raise _not_a_work_tree(path, top.stderr)
    root = Path(top.stdout.removesuffix("\n"))
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", check=False)
    if head.returncode != 0:
        raise CliError(
            f"{root} has no commit yet",
            next_step=f"git -C '{root}' add -A && git -C '{root}' commit -m 'First commit'",
            code="repository_empty",
        )
    if _git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        raise CliError(
            f"{root} is a shallow clone: its history is cut off, so it can't be packed",
            next_step=f"git -C '{root}' fetch --unshallow",
            code="repository_shallow",
        )
    commit = head.stdout.strip()
    branch = _git(root, "symbolic-ref", "--quiet", "--short", "HEAD", check=False)
    detached = branch.returncode != 0
    status = _git(root, "status", "--porcelain", "-z", "--untracked-files=normal", "--no-renames").stdout
    return LocalRepository(
        path=root,
        branch=f"detached-{commit[:8]}" if detached else branch.stdout.strip(),
        detached=detached,
        head_commit=commit,
        changed_files=sum(1 for entry in status.split("\0") if entry),
    )


def bundle_create(repository: LocalRepository, *, folder: Path) -> Path:
    """Pack the history of HEAD's branch into a bundle in ``folder``, which lies outside the repository."""
    # The bundle is made from a bare repository that borrows the user's objects: a detached HEAD gets a branch there,
    # and nothing is ever written to the user's own .git.
    bare, bundle = folder / "pack.git", folder / "repository.bundle"
    object_format = _git(repository.path, "rev-parse", "--show-object-format").stdout.strip()
    objects = _git(repository.path, "rev-parse", "--path-format=absolute", "--git-path", "objects").stdout
    ref = f"refs/heads/{repository.branch}"
    _git(folder, "init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", str(bare))
    (bare / "objects" / "info").mkdir(parents=True, exist_ok=True)
    (bare / "objects" / "info" / "alternates").write_text(objects)
    _git(bare, "update-ref", ref, repository.head_commit)
    _git(bare, "symbolic-ref", "HEAD", ref)
    _git(bare, "bundle", "create", "--quiet", str(bundle), "HEAD", ref, code="bundle_failed")
    return bundle


def branch_fetch(repository: LocalRepository, *, bundle: Path, branch: str) -> str:
    """Bring the session's branch from the bundle into the user's repository; returns its commit.

    Only ``refs/heads/archon/…`` is ever written, by a fast-forward; the work tree and the index stay as they are.
    """
    valid = _git(repository.path, "check-ref-format", "--branch", branch, check=False).returncode == 0
    if not valid or not branch.startswith("archon/"):
        raise CliError(f"the server names {branch!r} as the session's branch, which isn't one", code="bad_branch")
    ref = f"refs/heads/{branch}"
    fetched = _git(
        repository.path,
        "-c", "transfer.fsckObjects=true", "-c", "maintenance.auto=false", "-c", "gc.auto=0",
        "fetch", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
        str(bundle), f"{ref}:{ref}",
        check=False,
    )  # fmt: skip
    if fetched.returncode != 0:
        said = fetched.stderr.strip()
        if "prerequisite" in said:
            next_step = "this is not the repository that the session started from; name that one with --repo"
        elif "non-fast-forward" in said or "rejected" in said:
            next_step = (
                f"{branch} has commits of its own here: rename it (git branch -m {branch} OTHER), then fetch again"
            )
        elif "checked out" in said:
            next_step = f"{branch} is checked out: switch to another branch, then fetch again"
        else:
            next_step = "see what git says"
        raise CliError(f"git did not fetch the branch: {said}", next_step=next_step, code="fetch_failed")
    return _git(repository.path, "rev-parse", "--verify", ref).stdout.strip()


def repository_create(path: Path, *, message: str) -> LocalRepository:
    """Make the folder a git repository of its own with everything in it in one commit (for the demo's sample)."""
    _git(path, "init", "--quiet", "--initial-branch=main", "--template=")
    _git(path, "add", "--all")
    _git(
        path,
        "-c", "user.name=Archon demo", "-c", "user.email=demo@archon.invalid",
        "-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null",
        "commit", "--quiet", "--message", message,
    )  # fmt: skip
    return repository_open(path)


def _git(
    folder: Path, *arguments: str, check: bool = True, code: str = "git_failed"
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    # No index refresh, no prompts, no lazy fetches: looking changes nothing. English, since errors are read.
    environment |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C.UTF-8",
    }
    try:
        result = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError:
        raise CliError("git is not installed", next_step="install git", code="git_missing") from None
    if check and result.returncode != 0:
        said = result.stderr.strip() or f"git {arguments[0]} failed"
        raise CliError(f"git: {said}", next_step=f"see `git -C '{folder}' status`", code=code)
    return result


def _not_a_work_tree(path: Path, said: str) -> CliError:
    if "dubious ownership" in said:
        return CliError(
            f"{path} belongs to another user, so git does not trust it",
            next_step=f"git config --global --add safe.directory '{path}'",
            code="repository_untrusted",
        )
    if "work tree" in said:
        return CliError(
            f"{path} is a git repository without a work tree",
            next_step="name a checkout of it with --repo",
            code="repository_bare",
        )
    return CliError(
        f"{path} is not in a git repository",
        next_step=f"git -C '{path}' init && git -C '{path}' add -A && git -C '{path}' commit -m 'First commit'",
        code="repository_none",
    )
