"""How a project's bare repository is laid out, and the one way to change its layout.

``refs/remotes/source/*`` is what the source last said, ``refs/heads/*`` where the project is, ``refs/heads/archon/*``
belongs to sessions, and ``refs/replaced/*`` keeps what was given up on purpose.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.conf import settings

from apps.core.errors import Conflict, NotFound, Unavailable
from apps.projects.git import full_disk_told, git_run, path_display
from apps.projects.repository_source import is_session_branch
from integrations.posix import fcntl

#: What a writer waits for another one: as long as a fetch takes to notice that it is to stop, and an import to end.
_LOCK_SECONDS = 60
#: What tools leave behind in a checkout, whether or not the repository ignores it.
IGNORED_LEFTOVERS = """\
__pycache__/
*.py[co]
.pytest_cache/
.mypy_cache/
.ruff_cache/
.hypothesis/
.coverage
.coverage.*
.tox/
.nox/
.venv/
node_modules/
*.egg-info/
.DS_Store
"""


@dataclass(frozen=True)
class RepositoryInfo:
    default_branch: str
    head_commit: str
    #: Without the sessions' own.
    branches: tuple[str, ...]


def repository_path(*, project_id: object) -> Path:
    """Where the project's bare repository is, or will be."""
    return Path(settings.ARCHON_HOME) / "repositories" / f"{project_id}.git"


@contextlib.contextmanager
def repository_locked(project_id: object) -> Iterator[None]:
    """One writer of the repository's layout at a time, over all processes; Unavailable when another takes too long."""
    path = repository_path(project_id=project_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with full_disk_told("the repository could not be written"), path.with_suffix(".lock").open("w") as lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _flock(lock):
            if time.monotonic() > deadline:
                raise Unavailable(
                    "The repository is being written by another process", next_step="Try again when that has ended."
                )
            time.sleep(0.1)
        yield


def _flock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def repository_opened(project_id: object) -> Path:
    path = repository_path(project_id=project_id)
    if path.exists():
        leftovers_delete(path)
    else:
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            git_run("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(fresh))
            (fresh / "info").mkdir(exist_ok=True)
            (fresh / "info" / "exclude").write_text(IGNORED_LEFTOVERS)
            fresh.rename(path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    return path


def leftovers_delete(git_dir: Path) -> None:
    """Remove what an import that was killed or found the disk full left behind; its lock has to be held."""
    for unfinished in (git_dir / "objects" / "pack").glob("tmp_*"):
        unfinished.unlink(missing_ok=True)
    for quarantine in (git_dir / "objects").glob("incoming-*"):
        shutil.rmtree(quarantine, ignore_errors=True)


def temporary_folder() -> Path:
    folder: Path = settings.ARCHON_HOME / "temporary"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def repository_require(project_id: object) -> Path:
    path = repository_path(project_id=project_id)
    if not path.exists():
        raise NotFound("The project has no repository yet", next_step="Import a folder or upload a git bundle.")
    return path


def branches_publish(git_dir: Path, before: dict[str, str], chosen: str) -> RepositoryInfo:
    """Move the project's branches to where the source has them, unless that would lose commits made here."""
    source, here = refs_read(git_dir, "refs/remotes/source/"), refs_read(git_dir, "refs/heads/")
    updates = []
    for name, theirs in source.items():
        ours = here.get(name)
        if is_session_branch(name) or ours == theirs:
            continue
        if ours is None:
            updates.append(f"create refs/heads/{name}\0{theirs}\0")
        elif ours == before.get(name) or is_ancestor(git_dir, ours, theirs):
            updates.append(f"update refs/heads/{name}\0{theirs}\0{ours}\0")
        elif name == chosen and not is_ancestor(git_dir, theirs, ours):
            raise Conflict(
                f"{name} went on in both places: {ours[:12]} here, {theirs[:12]} in the source",
                next_step=f"Download {name} from here, merge it into yours, and import again.",
                state="diverged",
            )
    refs_update(git_dir, updates)
    return branch_select(git_dir, chosen)


@dataclass(frozen=True)
class Divergence:
    """A branch that went one way here and another in the source."""

    branch: str
    ours: str
    theirs: str


def branches_follow(
    git_dir: Path, *, chosen: str, force: bool = False
) -> tuple[RepositoryInfo, tuple[Divergence, ...]]:
    """Move the project's branches on to where the source has them, forwards only; with ``force`` also elsewhere.

    What ``force`` gives up stays under ``refs/replaced/``. A ``chosen`` branch that diverged raises Conflict; the
    others are left where they are and returned.
    """
    source, here = refs_read(git_dir, "refs/remotes/source/"), refs_read(git_dir, "refs/heads/")
    updates: list[str] = []
    diverged: list[Divergence] = []
    for name, theirs in source.items():
        ours = here.get(name)
        if is_session_branch(name) or ours == theirs:
            continue
        if ours is None:
            updates.append(f"create refs/heads/{name}\0{theirs}\0")
        elif is_ancestor(git_dir, ours, theirs):
            updates.append(f"update refs/heads/{name}\0{theirs}\0{ours}\0")
        elif force:
            updates.append(f"update refs/replaced/{name}/{ours}\0{ours}\0\0")
            updates.append(f"update refs/heads/{name}\0{theirs}\0{ours}\0")
        elif not is_ancestor(git_dir, theirs, ours):
            diverged.append(Divergence(name, ours, theirs))
    for divergence in diverged:
        if divergence.branch == chosen:
            raise Conflict(
                f"{chosen} was rewritten in the source, or went on in both places: {divergence.ours[:12]} here, "
                f"{divergence.theirs[:12]} there",
                next_step="Merge the two elsewhere and sync again; or sync with force to take the source's: "
                "what is here is kept under refs/replaced/ then.",
                state="diverged",
            )
    refs_update(git_dir, updates)
    return branch_select(git_dir, chosen), tuple(diverged)


def branch_select(git_dir: Path, chosen: str) -> RepositoryInfo:
    """Make a branch the default one. NotFound when there is none of that name."""
    branches = {name: sha for name, sha in refs_read(git_dir, "refs/heads/").items() if not is_session_branch(name)}
    if chosen not in branches:
        raise NotFound(
            f"There is no branch {chosen!r} in the repository",
            next_step=f"Name one of: {', '.join(sorted(branches)[:10]) or 'none is there'}.",
        )
    git_run("symbolic-ref", "HEAD", f"refs/heads/{chosen}", git_dir=git_dir)
    return RepositoryInfo(chosen, branches[chosen], tuple(sorted(branches)))


def refs_read(git_dir: Path, prefix: str) -> dict[str, str]:
    """Commits by the names of the refs below ``prefix``, which is left off."""
    listing = git_run("for-each-ref", "--format=%(objectname) %(refname)", prefix, git_dir=git_dir).text
    return {name.removeprefix(prefix): sha for sha, _, name in (line.partition(" ") for line in listing.splitlines())}


def refs_update(git_dir: Path, commands: Sequence[str]) -> None:
    """Carry out ``update-ref`` commands, all or none."""
    if commands:
        script = "".join(commands).encode("utf-8", "surrogateescape")
        git_run("update-ref", "-z", "--stdin", git_dir=git_dir, stdin=script)


def is_ancestor(git_dir: Path, ancestor: str, descendant: str) -> bool:
    return (
        git_run("merge-base", "--is-ancestor", ancestor, descendant, git_dir=git_dir, accepted=(0, 1)).returncode == 0
    )


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return path_display(lines[-1])[:500] if lines else "no reason given"
