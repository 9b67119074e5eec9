"""A project's repository, brought up to date from where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from apps.core.errors import Conflict, TooLarge
from apps.projects.git import GitError
from apps.projects.remote_access import RemoteCredentials, remote_access_open
from apps.projects.remote_address import RemoteAddress
from apps.projects.remote_fetch import FetchProgress, FetchWatch, remote_head_read, remote_history_fetch
from apps.projects.repository_modules import modules_fetch
from apps.projects.repository_notices import Notice, lfs_notices
from apps.projects.repository_store import (
    RepositoryInfo,
    branches_follow,
    last_line,
    leftovers_delete,
    refs_read,
    refs_update,
    repository_locked,
    repository_opened,
)

_FETCHED_REFS = ("refs/remotes/source/", "refs/tags/")


@dataclass(frozen=True)
class RemoteFetched:
    info: RepositoryInfo
    notices: tuple[Notice, ...]
    #: The keys of the host as they are believed from now on; of ssh alone.
    known_hosts: str


@dataclass(frozen=True)
class _Holdings:
    """What a repository has from its source, while its lock is held."""

    refs: dict[str, str]
    packs: frozenset[str]

    @classmethod
    def read(cls, git_dir: Path) -> _Holdings:
        refs = {prefix + name: sha for prefix in _FETCHED_REFS for name, sha in refs_read(git_dir, prefix).items()}
        return cls(refs, frozenset(path.name for path in (git_dir / "objects" / "pack").iterdir()))

    def restore(self, git_dir: Path) -> None:
        """Forget what came since: refs first, so that nothing names what is no longer there."""
        now = _Holdings.read(git_dir)
        commands = [f"delete {name}\0\0" for name in now.refs if name not in self.refs]
        commands += [f"update {name}\0{sha}\0\0" for name, sha in self.refs.items() if now.refs.get(name) != sha]
        refs_update(git_dir, commands)
        for name in now.packs - self.packs:
            (git_dir / "objects" / "pack" / name).unlink(missing_ok=True)


def repository_fetch(
    *,
    project_id: object,
    address: RemoteAddress,
    credentials: RemoteCredentials,
    branch: str,
    force: bool,
    on_progress: Callable[[FetchProgress], None],
    on_tick: Callable[[], None],
) -> RemoteFetched:
    """Fetch all branches and tags with their history, and move the project's branches on.

    Minutes long; what ``on_tick`` raises stops it. It may be killed anywhere and done again. Raises Conflict for a
    branch that can't be moved forwards (see ``branches_follow``), and else what made it impossible.
    """
    with repository_locked(project_id):
        git_dir = repository_opened(project_id)
        watch = FetchWatch(folder=git_dir, on_progress=on_progress, on_tick=on_tick)
        before = _Holdings.read(git_dir)
        try:
            with remote_access_open(address, credentials) as access:
                head = remote_head_read(git_dir=git_dir, access=access, branch=branch, watch=watch)
                remote_history_fetch(git_dir=git_dir, access=access, watch=watch)
                known_hosts = access.known_hosts()
            watch.size_check()
        except BaseException as error:
            # Nothing of it counts.
            leftovers_delete(git_dir)
            if isinstance(error, TooLarge):
                # Git may have put it in its place before anybody had looked.
                before.restore(git_dir)
            raise
        try:
            info, diverged = branches_follow(git_dir, chosen=head.branch, force=force)
        except GitError as error:
            raise Conflict(
                f"The branches can't be moved to where the source has them: {last_line(error.stderr)}",
                next_step="Make the project anew, or rename the branch in the source.",
                state="diverged",
            ) from error
        notices = [
            Notice(
                "branch",
                divergence.branch,
                f"The branch is at {divergence.ours[:12]} here and went another way in the source "
                f"({divergence.theirs[:12]}); it was left as it is. Sync with force to take the source's.",
            )
            for divergence in diverged
        ]
        notices += modules_fetch(
            git_dir=git_dir,
            commit=info.head_commit,
            base=address,
            credentials=credentials,
            on_progress=on_progress,
            on_tick=on_tick,
        )
        notices += lfs_notices(git_dir=git_dir, commit=info.head_commit)
    return RemoteFetched(info, tuple(notices), known_hosts)
