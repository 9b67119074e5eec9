"""A repository elsewhere, brought into the server's own with all of its history; and why that did not work."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apps.core.errors import InvalidInput, TooLarge
from apps.projects.git import GitError, GitWatch, git_run
from apps.projects.remote_access import RemoteAccess
from apps.projects.remote_address import RemoteAddress
from apps.projects.remote_failures import remote_error
from apps.projects.repository_source import SESSION_BRANCHES, branch_choose, remote_refs

_PROGRESS = re.compile(
    r"(?:remote: )?(?P<phase>Enumerating|Counting|Compressing|Receiving|Resolving|Checking|Unpacking)"
    r" (?P<what>objects|deltas|connectivity)[^:]*:\s+(?:(?P<percent>\d{1,3})%)?(?P<rest>.*)"
)
_SIZE = re.compile(r"[\d.]+ [KMGT]?i?B(?:ytes)?\b")


@dataclass(frozen=True)
class FetchProgress:
    """What git is at: its own words for it, and how much of it is done."""

    phase: str
    percent: int | None = None
    #: How much has come so far, as git says it.
    received: str = ""


class FetchWatch(GitWatch):
    """Reads git's progress, and stops it at the limit on the disk. ``on_tick`` may raise to stop it as well."""

    def __init__(
        self, *, folder: Path, on_progress: Callable[[FetchProgress], None], on_tick: Callable[[], None]
    ) -> None:
        self._folder = folder
        self._on_progress = on_progress
        self._on_tick = on_tick
        self._rest = ""
        self._measure_at = 0.0

    def tick(self) -> None:
        self._on_tick()
        begun = time.monotonic()
        if begun < self._measure_at:
            return
        self.size_check()
        # A folder of very many files takes long to look at: not all the time.
        self._measure_at = time.monotonic() + 20 * (time.monotonic() - begun)

    def size_check(self) -> None:
        """Raises TooLarge when the folder has grown over the limit."""
        limit = settings.ARCHON_REPOSITORY_LIMIT_MB
        if folder_bytes(self._folder) > limit * 1024 * 1024:
            raise TooLarge(
                f"The repository and its history take more than the {limit} MiB that are allowed",
                next_step="Have the operator raise ARCHON_REPOSITORY_LIMIT_MB, or upload an archive without history.",
            )

    def progress(self, text: str) -> None:
        *lines, self._rest = re.split(r"[\r\n]", (self._rest + text)[-4096:])
        for line in reversed(lines):
            found = _PROGRESS.match(line.strip())
            if found:
                size = _SIZE.search(found["rest"])
                percent = min(100, int(found["percent"])) if found["percent"] else None
                phase = f"{found['phase']} {found['what']}"
                self._on_progress(FetchProgress(phase, percent, size.group() if size else ""))
                return


def folder_bytes(folder: Path) -> int:
    """What the files below a folder take; those that go away meanwhile don't count."""
    total = 0
    for current, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(current, name)).st_size
            except FileNotFoundError:
                continue
    return total


@dataclass(frozen=True)
class RemoteHead:
    #: The branch to work on: the one that was asked for, else the one that the other side says.
    branch: str
    branches: int


def remote_head_read(*, git_dir: Path, access: RemoteAccess, branch: str, watch: GitWatch) -> RemoteHead:
    """Ask the other side for its branches. Raises as :func:`remote_error` says, InvalidInput without a branch."""
    listing = _run(access, "ls-remote", "--symref", access.url, "HEAD", "refs/heads/*", git_dir=git_dir, watch=watch)
    head_branch, head_commit, heads = remote_refs(listing)
    return RemoteHead(branch_choose(branch or None, head_branch, head_commit, heads), len(heads))


def remote_history_fetch(*, git_dir: Path, access: RemoteAccess, watch: GitWatch) -> None:
    """All branches (as ``refs/remotes/source/*``) and tags with all of their history; every object is checked."""
    _run(
        access,
        "fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--prune", "--atomic", "--no-auto-maintenance",
        access.url, "+refs/heads/*:refs/remotes/source/*", f"^refs/heads/{SESSION_BRANCHES}/*",
        f"^refs/heads/{SESSION_BRANCHES}", "+refs/tags/*:refs/tags/*",
        git_dir=git_dir, watch=watch,
    )  # fmt: skip


def remote_commit_fetch(*, git_dir: Path, access: RemoteAccess, commit: str, watch: GitWatch) -> None:
    """One commit that may be on no branch, with its history."""
    _run(
        access,
        "fetch", "--progress", "--no-tags", "--no-write-fetch-head", access.url, f"+{commit}:refs/pinned/{commit}",
        git_dir=git_dir, watch=watch,
    )  # fmt: skip


def _run(access: RemoteAccess, *arguments: str, git_dir: Path, watch: GitWatch) -> str:
    try:
        return git_run(
            *arguments,
            git_dir=git_dir,
            environment=access.environment,
            configuration=("fetch.unpackLimit=1", "transfer.credentialsInUrl=die"),
            protocol=access.protocol,
            timeout=settings.ARCHON_REPOSITORY_SECONDS,
            watch=watch,
        ).text
    except GitError as error:
        raise remote_error(error, access) from error


def credentials_suit(address: RemoteAddress, *, token: str, deploy_key: str) -> None:
    """Raises InvalidInput for a token that an ssh address has no use for, or the other way round."""
    if address.scheme == "ssh" and token:
        raise InvalidInput(
            "An ssh address is opened by a key, not by a token", next_step="Give a deploy key, or an https address."
        )
    if address.scheme != "ssh" and deploy_key:
        raise InvalidInput(
            "An https address is opened by a token, not by a key", next_step="Give a token, or an ssh address."
        )
