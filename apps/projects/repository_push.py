"""One commit of a project's repository, put onto a branch of its origin, and never over what others put there.

A branch is created, moved on, or moved anywhere if what it holds is known to be ours. The other side compares it with
what was seen there in the very moment in which it moves it (``--force-with-lease``), so nobody's commit is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apps.core.errors import ApplicationError, Conflict, InvalidInput
from apps.core.storable import text_storable
from apps.projects.git import GitError, GitWatch, git_run
from apps.projects.remote_access import RemoteAccess, RemoteCredentials, remote_access_open
from apps.projects.remote_address import RemoteAddress
from apps.projects.remote_failures import PUSH_CAUSES, PushRefused, remote_error
from apps.projects.repository_store import is_ancestor, repository_require

_BRANCH_LENGTH = 200
#: A branch's name as people write them, and as every forge, shell and address takes it.
_BRANCH = re.compile(r"[^\W_][\w./@+-]*")
#: What a host says to a branch that it guards, or to a push that a rule of its own forbids.
_REFUSED = re.compile(r"^!\t[^\t]*\t\[(?P<how>remote rejected|rejected|remote failure)\] ?\(?(?P<why>.*?)\)?$", re.M)
_MOVED = ("stale info", "non-fast-forward", "fetch first", "needs force", "cannot lock ref", "failed to update ref")


class BranchMoved(Conflict):
    """The branch is there, and holds what this session did not put there."""

    code = "branch_moved"


@dataclass(frozen=True)
class Pushed:
    """``forced``: what was there before is no part of it. ``was_there``: nothing had to be moved."""

    forced: bool
    was_there: bool


def branch_name_clean(text: str) -> str:
    """A branch's name; InvalidInput for what git, or somebody who has to type it, could not take."""
    name = text.strip().removeprefix("refs/heads/")
    if len(name) > _BRANCH_LENGTH or not _BRANCH.fullmatch(name) or not _git_takes(name):
        raise InvalidInput(
            f"{text[:100]!r} can't be the name of a branch",
            next_step="Use letters, digits and . _ - /, such as fix/empty-input.",
        )
    return name


def _git_takes(name: str) -> bool:
    return git_run("check-ref-format", f"refs/heads/{name}", accepted=(0, 1)).returncode == 0 and name != "HEAD"


def branch_push(
    *,
    project_id: object,
    address: RemoteAddress,
    credentials: RemoteCredentials,
    branch: str,
    commit: str,
    target: str,
    ours: Collection[str],
    before_push: Callable[[], None],
    on_tick: Callable[[], None],
) -> Pushed:
    """Have the origin's branch be at the commit; there already is fine. ``target``: a branch that has to be there.

    ``ours`` are commits that this session has put there: a branch at one of them is moved wherever the commit is.
    ``before_push`` is called right before anything is moved, and what ``on_tick`` raises stops it. May be killed
    anywhere and done again. Raises BranchMoved, PushRefused, or what made the host unreachable.
    """
    git_dir = repository_require(project_id)
    watch = _Watch(on_tick)
    with remote_access_open(address, credentials) as access:
        heads = _heads(access, git_dir, (branch, target), watch)
        if target not in heads:
            raise InvalidInput(
                f"{address.url} has no branch {target}", next_step="Name one that it has as the target."
            )  # fmt: skip
        there = heads.get(branch, "")
        if there == commit:
            return Pushed(forced=False, was_there=True)
        follows = not there or (_is_here(git_dir, there) and is_ancestor(git_dir, there, commit))
        if not follows and there not in ours:
            raise _moved(branch, there, known=any(ours))
        before_push()
        ref = f"refs/heads/{branch}"
        try:
            git_run(
                "push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-recurse-submodules",
                f"--force-with-lease={ref}:{there}", access.url, f"{commit}:{ref}",
                git_dir=git_dir,
                environment=access.environment,
                configuration=("transfer.credentialsInUrl=die", "push.gpgSign=false"),
                protocol=access.protocol,
                timeout=settings.ARCHON_REPOSITORY_SECONDS,
                watch=watch,
            )  # fmt: skip
        except GitError as error:
            raise _push_error(error, access, branch, there) from error
        return Pushed(forced=not follows, was_there=False)


class _Watch(GitWatch):
    def __init__(self, on_tick: Callable[[], None]) -> None:
        self._on_tick = on_tick

    def tick(self) -> None:
        self._on_tick()

    def progress(self, text: str) -> None:
        """Nobody looks on that closely: what is pushed is small beside what was fetched."""


def _heads(access: RemoteAccess, git_dir: Path, names: tuple[str, ...], watch: GitWatch) -> dict[str, str]:
    refs = [f"refs/heads/{name}" for name in names]
    try:
        listing = git_run(
            "ls-remote", access.url, *refs,
            git_dir=git_dir, environment=access.environment, protocol=access.protocol, watch=watch,
            configuration=("transfer.credentialsInUrl=die",), timeout=settings.ARCHON_REPOSITORY_SECONDS,
        )  # fmt: skip
    except GitError as error:
        raise remote_error(error, access) from error
    pairs = (line.partition("\t") for line in listing.text.splitlines())
    return {ref.removeprefix("refs/heads/"): sha for sha, _, ref in pairs if ref in refs}


def _is_here(git_dir: Path, commit: str) -> bool:
    found = git_run("cat-file", "-e", f"{commit}^{{commit}}", git_dir=git_dir, accepted=(0, 1, 128))
    return found.returncode == 0


def _moved(branch: str, there: str, *, known: bool) -> ApplicationError:
    if known:
        return BranchMoved(
            f"The branch {branch} was moved on the origin: it is at {there[:12]}, which this session did not put there",
            next_step="Bring what is there into the project (archon sync) and start from that, or publish under "
            "another name (--branch).",
            state="branch_moved",
            commit=there,
        )
    return BranchMoved(
        f"The origin has a branch {branch} already, at {there[:12]}, and the session's does not build on it",
        next_step="Publish under another name (--branch), or delete the branch there.",
        state="branch_moved",
        commit=there,
    )


def _push_error(error: GitError, access: RemoteAccess, branch: str, there: str) -> ApplicationError:
    said = f"{error.stdout}\n{error.stderr}"
    refused = _REFUSED.search(error.stdout)
    why = refused["why"].strip() if refused is not None else ""
    if any(phrase in why for phrase in _MOVED):
        return BranchMoved(
            f"The branch {branch} was moved on the origin in this very moment",
            next_step="Look at what is there, and publish again.",
            state="branch_moved",
            commit=there,
        )
    if refused is not None:
        told = "; ".join(line for line in _remote_lines(said, access)) or why
        return PushRefused(
            text_storable(f"The host does not take the branch {branch}: {told}")[:800],
            next_step="It is protected, or a rule of the repository forbids it: publish under another name (--branch), "
            "or have the rule changed there.",
        )
    return remote_error(error, access, causes=PUSH_CAUSES)


def _remote_lines(said: str, access: RemoteAccess) -> list[str]:
    """What the host itself said, without secrets and without the rules and frames that some put around it."""
    for secret in access.secrets:
        said = said.replace(secret, "***")
    lines = (line.removeprefix("remote:").strip(" \t=#-") for line in said.splitlines() if line.startswith("remote:"))
    return [re.sub(r"[^\x20-\x7e\u00a0-\uffff]", "?", line) for line in lines if line][:6]
