"""Submodules: repositories that a repository names at a commit each, kept beside it and put into its checkouts.

They are fetched from where the repository says: from its own host with its credentials, from others without any, each
address checked as the repository's own is. What can't be had is left out and told. Agents see the files of a submodule
and may change them for their tests; a commit never holds them, since they belong to another repository.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from apps.core.errors import ApplicationError
from apps.projects.git import GitError, git_run, path_decode, path_display
from apps.projects.remote_access import RemoteCredentials, remote_access_open
from apps.projects.remote_address import RemoteAddress, remote_address_relative
from apps.projects.remote_fetch import FetchProgress, FetchWatch, remote_commit_fetch, remote_history_fetch
from apps.projects.repository_notices import Notice

_MODULES = 50
_DEPTH = 4
_CONFIG_BYTES = 1_000_000
_LINK_MODE = b"160000"


@dataclass(frozen=True)
class Submodule:
    """One that a commit names. ``url`` is as ``.gitmodules`` has it; empty where it has none."""

    path: str
    commit: str
    url: str


def modules_folder(git_dir: Path) -> Path:
    """Where the repositories of the submodules are: within the project's own, so that they go with it."""
    return git_dir / "archon-modules"


def submodules_list(*, git_dir: Path, commit: str) -> tuple[Submodule, ...]:
    """The submodules of a commit, in the order of their paths."""
    links = _links(git_dir, commit)
    if not links:
        return ()
    urls = _urls(git_dir, commit)
    return tuple(Submodule(path, sha, urls.get(path, "")) for path, sha in links)


def modules_fetch(
    *,
    git_dir: Path,
    commit: str,
    base: RemoteAddress,
    credentials: RemoteCredentials,
    on_progress: Callable[[FetchProgress], None],
    on_tick: Callable[[], None],
) -> list[Notice]:
    """Fetch what the submodules of a commit need; a notice for each that could not be had."""
    notices: list[Notice] = []
    seen: set[str] = set()
    pending = [(git_dir, commit, base, "", 1)]
    while pending:
        within, at, near, prefix, depth = pending.pop(0)
        for module in submodules_list(git_dir=within, commit=at):
            path = f"{prefix}{module.path}"
            if len(seen) >= _MODULES or depth > _DEPTH:
                notices.append(Notice("submodule", path_display(path), "Left out: there are too many submodules."))
                continue
            try:
                if not module.url:
                    raise _Missing(".gitmodules says no address for it")
                address = remote_address_relative(near, module.url)
                found = _module_fetch(
                    git_dir=git_dir,
                    address=address,
                    commit=module.commit,
                    credentials=credentials if address.origin == base.origin else RemoteCredentials(),
                    on_progress=on_progress,
                    on_tick=on_tick,
                )
            except ApplicationError as error:
                notices.append(
                    Notice(
                        "submodule",
                        path_display(path),
                        f"The submodule is not there: {error.message}. {error.next_step}".strip(),
                    )
                )
                continue
            seen.add(address.url)
            _link_note(git_dir, module.commit, found)
            pending.append((found, module.commit, address, f"{path}/", depth + 1))
    return notices


def modules_checkout(*, git_dir: Path, commit: str, path: Path) -> tuple[str, ...]:
    """Write the files of the submodules that are here into a checkout; the paths of those that are not."""
    missing: list[str] = []
    with tempfile.TemporaryDirectory(prefix="modules-", dir=path.parent) as apart:
        for number, (module_path, sha, found) in enumerate(_here(git_dir, commit)):
            folder = path / module_path
            if found is None:
                missing.append(module_path)
                continue
            # Made by us a moment ago from the same tree, so no link of anybody's is in the way.
            folder.mkdir(parents=True, exist_ok=True)
            index = Path(apart) / f"index-{number}"
            git_run("read-tree", sha, git_dir=found, index=index)
            git_run("checkout-index", "--all", "--force", git_dir=found, work_tree=folder, index=index, timeout=600)
    return tuple(missing)


def _here(git_dir: Path, commit: str) -> Iterator[tuple[str, str, Path | None]]:
    """Every submodule below a commit, its commit, and the repository that has it."""
    pending = [(git_dir, commit, "", 1)]
    while pending:
        within, at, prefix, depth = pending.pop(0)
        for path, sha in _links(within, at):
            found = _link_find(git_dir, sha) if depth <= _DEPTH else None
            yield f"{prefix}{path}", sha, found
            if found is not None:
                pending.append((found, sha, f"{prefix}{path}/", depth + 1))


def modules_bytes(*, git_dir: Path, commit: str) -> int:
    """What the files of the submodules take in a checkout."""
    total = 0
    for _, sha, found in _here(git_dir, commit):
        if found is not None:
            listing = git_run("ls-tree", "-r", "-l", "-z", "--full-tree", sha, git_dir=found).stdout
            sizes = (entry.split(b"\t", 1)[0].split()[3] for entry in listing.split(b"\0") if entry)
            total += sum(int(size) for size in sizes if size != b"-")
    return total


class _Missing(ApplicationError):
    """The submodule can't be fetched for what the repository says of it."""


def _module_fetch(
    *,
    git_dir: Path,
    address: RemoteAddress,
    commit: str,
    credentials: RemoteCredentials,
    on_progress: Callable[[FetchProgress], None],
    on_tick: Callable[[], None],
) -> Path:
    module = modules_folder(git_dir) / f"{hashlib.sha256(address.url.encode()).hexdigest()[:32]}.git"
    if not module.exists():
        module.parent.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".fresh-", dir=module.parent))
        try:
            git_run("init", "--quiet", "--bare", "--template=", str(fresh))
            fresh.rename(module)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    if _has(module, commit):
        return module
    watch = FetchWatch(folder=git_dir, on_progress=on_progress, on_tick=on_tick)
    with remote_access_open(address, credentials) as access:
        remote_history_fetch(git_dir=module, access=access, watch=watch)
        if not _has(module, commit):
            remote_commit_fetch(git_dir=module, access=access, commit=commit, watch=watch)
    watch.size_check()
    if not _has(module, commit):
        raise _Missing(f"its repository has no commit {commit[:12]}")
    return module


def _link_note(git_dir: Path, commit: str, module: Path) -> None:
    """Remember which repository has a submodule's commit, for checkouts, which know no addresses."""
    mark = modules_folder(git_dir) / "commits" / commit
    mark.parent.mkdir(exist_ok=True)
    fresh = mark.with_suffix(".fresh")
    fresh.write_text(module.name)
    fresh.rename(mark)


def _link_find(git_dir: Path, commit: str) -> Path | None:
    mark = modules_folder(git_dir) / "commits" / commit
    try:
        module = modules_folder(git_dir) / mark.read_text()
    except FileNotFoundError:
        return None
    return module if module.is_dir() else None


def _links(git_dir: Path, commit: str) -> list[tuple[str, str]]:
    listing = git_run("ls-tree", "-r", "-z", "--full-tree", commit, git_dir=git_dir).stdout
    found = []
    for entry in filter(None, listing.split(b"\0")):
        described, path = entry.split(b"\t", 1)
        mode, _, sha = described.split()
        if mode == _LINK_MODE:
            found.append((path_decode(path), sha.decode()))
    return found


def _urls(git_dir: Path, commit: str) -> dict[str, str]:
    """Addresses by path, as the commit's ``.gitmodules`` has them."""
    described = git_run("cat-file", "-s", f"{commit}:.gitmodules", git_dir=git_dir, accepted=(0, 128))
    if described.returncode or int(described.text) > _CONFIG_BYTES:
        return {}
    try:
        listing = git_run(
            "config", "--no-includes", "-z", "--blob", f"{commit}:.gitmodules", "--get-regexp",
            r"^submodule\..*\.(path|url)$",
            git_dir=git_dir, accepted=(0, 1),
        )  # fmt: skip
    except GitError:
        return {}
    values: dict[str, dict[str, str]] = {}
    for entry in filter(None, listing.stdout.split(b"\0")):
        key, _, value = path_decode(entry).partition("\n")
        name, _, field = key.removeprefix("submodule.").rpartition(".")
        values.setdefault(name, {}).setdefault(field, value)
    return {fields["path"]: fields["url"] for fields in values.values() if "path" in fields and "url" in fields}


def _has(git_dir: Path, commit: str) -> bool:
    return git_run("cat-file", "-e", f"{commit}^{{commit}}", git_dir=git_dir, accepted=(0, 1, 128)).returncode == 0
