"""What a repository may come from, a folder on this machine or a git bundle: looked at before git is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apps.core.errors import InvalidInput
from apps.projects.git import git_run, path_decode, path_display

#: Branches under this name belong to sessions; a source's own are not taken over.
SESSION_BRANCHES = "archon"


def source_git_dir(source: str) -> Path:
    """The git dir of a folder under the allowed roots, all that it points at being under them too."""
    roots = [Path(root).resolve() for root in settings.ARCHON_REPOSITORY_ROOTS]
    if not roots:
        raise InvalidInput(
            "This server takes no repository by path",
            next_step="Upload a git bundle, or have the operator set ARCHON_REPOSITORY_ROOTS.",
        )

    def allowed(path: Path) -> Path:
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError):
            resolved = Path("/")
        if "\0" in str(path) or not any(resolved.is_relative_to(root) for root in roots):
            raise InvalidInput(
                f"{source} is not under a folder that this server may read",
                next_step="Upload a git bundle, or have the operator add the folder to ARCHON_REPOSITORY_ROOTS.",
            )
        return resolved

    if not Path(source).is_absolute():
        raise InvalidInput(f"{source!r} is not an absolute path", next_step="Name the folder from / on.")
    folder = allowed(Path(source))
    try:
        if not folder.is_dir():
            raise InvalidInput(f"There is no folder {source}", next_step="Check the path.")
        git_dir = folder / ".git"
        if git_dir.is_file():
            pointer = git_dir.read_bytes()[:4096].decode("utf-8", "surrogateescape")
            git_dir = folder / pointer.removeprefix("gitdir:").strip()
        elif not git_dir.exists():
            git_dir = folder
        git_dir = allowed(git_dir)
        common = git_dir
        if (git_dir / "commondir").is_file():
            common = allowed(git_dir / (git_dir / "commondir").read_text("utf-8", "surrogateescape")[:4096].strip())
        if not ((git_dir / "HEAD").exists() and (common / "objects").is_dir() and (common / "refs").is_dir()):
            raise InvalidInput(
                f"{source} is not a git repository",
                next_step="Name the repository's top folder, or run `git init` and commit first.",
            )
        for part in ("HEAD", "config", "refs", "packed-refs", "objects", "objects/pack"):
            allowed(common / part)
        _alternates_check(common / "objects", allowed)
    except PermissionError as error:
        raise InvalidInput(
            f"This server may not read {source}", next_step="Grant it read access, or upload a git bundle."
        ) from error
    return git_dir


def _alternates_check(objects: Path, allowed: Callable[[Path], Path], depth: int = 0) -> None:
    """Object stores that the repository borrows from have to be allowed too."""
    try:
        lines = (objects / "info" / "alternates").read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        if line and not line.startswith("#"):
            borrowed = allowed(objects / line.strip('"'))
            if depth < 5:
                _alternates_check(borrowed, allowed, depth + 1)


def remote_refs(listing: str) -> tuple[str, str, dict[str, str]]:
    """The branch and commit of HEAD and all branches, as ``ls-remote --symref`` tells them."""
    head_branch, head_commit, heads = "", "", {}
    for line in listing.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: refs/heads/") and name == "HEAD":
            head_branch = value.removeprefix("ref: refs/heads/")
        elif name == "HEAD":
            head_commit = value
        elif name.startswith("refs/heads/"):
            heads[name.removeprefix("refs/heads/")] = value
    return head_branch, head_commit, heads


def branch_choose(asked: str | None, head_branch: str, head_commit: str, heads: dict[str, str]) -> str:
    """The branch to work on."""
    own = {name: sha for name, sha in heads.items() if not is_session_branch(name)}
    if asked:
        if asked in own:
            return asked
        raise InvalidInput(
            f"There is no branch {asked!r} in the repository",
            next_step=f"Name one of: {', '.join(sorted(own)[:10]) or 'none is there; commit something first'}.",
        )
    if not own:
        raise InvalidInput("The repository has no commits on a branch", next_step="Commit something and try again.")
    if head_branch in own:
        return head_branch
    at_head = [name for name, sha in own.items() if sha == head_commit]
    candidates = at_head or list(own)
    for usual in ("main", "master"):
        if usual in candidates:
            return usual
    if len(candidates) == 1:
        return candidates[0]
    raise InvalidInput(
        "The repository has several branches and none is checked out",
        next_step=f"Name the branch to work on: {', '.join(sorted(candidates)[:10])}.",
    )


@dataclass(frozen=True)
class BundleHeader:
    refs: tuple[tuple[str, str], ...]
    prerequisites: tuple[str, ...]
    pack_offset: int


def bundle_header(path: Path) -> BundleHeader:
    """The text before a bundle's pack; what is no bundle that can be taken raises InvalidInput."""
    unusable = InvalidInput(
        "This is not a git bundle", next_step="Make one in the repository: `git bundle create repository.bundle --all`."
    )
    refs: list[tuple[str, str]] = []
    prerequisites: list[str] = []
    with path.open("rb") as file:
        if file.readline(64) not in (b"# v2 git bundle\n", b"# v3 git bundle\n"):
            raise unusable
        while (line := file.readline(8192)) != b"\n":
            if not line.endswith(b"\n"):
                raise unusable
            if line.startswith(b"@"):
                if line != b"@object-format=sha1\n":
                    raise InvalidInput(
                        f"Bundles with {path_display(path_decode(line[1:].strip()))} are not supported",
                        next_step="Make it from a complete SHA-1 repository: `git bundle create a.bundle --all`.",
                    )
                continue
            sha, _, name = line.lstrip(b"-").rstrip(b"\n").partition(b" ")
            if not re.fullmatch(rb"[0-9a-f]{40}", sha) or len(refs) + len(prerequisites) > 100_000:
                raise unusable
            if line.startswith(b"-"):
                prerequisites.append(sha.decode())
                continue
            decoded = path_decode(name)
            if decoded != "HEAD" and git_run("check-ref-format", decoded, accepted=(0, 1)).returncode:
                raise unusable
            refs.append((decoded, sha.decode()))
        return BundleHeader(tuple(refs), tuple(prerequisites), file.tell())


def is_session_branch(name: str) -> bool:
    """Whether a branch belongs to a session."""
    return name == SESSION_BRANCHES or name.startswith(f"{SESSION_BRANCHES}/")
