"""A project's repository: a bare one that the server owns, and that nobody else ever writes.

Branches that came in stand twice: as ``refs/remotes/source/*`` (what the source last said) and as ``refs/heads/*``
(where the project is); sessions add ``refs/heads/archon/*``. Importing again moves a branch on, and never back over
work that was merged here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from django.conf import settings

from apps.core.errors import Conflict, InvalidInput, NotFound, TooLarge, Unavailable
from apps.core.kill_points import kill_point
from apps.projects.git import (
    FSCK_SEVERITIES,
    NO_DATE,
    GitError,
    git_identity,
    git_run,
    path_decode,
    path_display,
    upload_pack_command,
)
from apps.projects.repository_diff import Diff, patch_write, trees_compare
from apps.projects.repository_modules import submodules_list
from apps.projects.repository_notices import Notice, lfs_notices
from apps.projects.repository_source import (
    SESSION_BRANCHES,
    branch_choose,
    bundle_header,
    is_session_branch,
    remote_refs,
    source_git_dir,
)
from apps.projects.repository_store import (
    IGNORED_LEFTOVERS,
    RepositoryInfo,
    branch_select,
    branches_publish,
    is_ancestor,
    last_line,
    leftovers_delete,
    refs_read,
    refs_update,
    repository_locked,
    repository_opened,
    repository_path,
    repository_require,
    temporary_folder,
)

__all__ = ["IGNORED_LEFTOVERS", "RepositoryInfo", "repository_path"]

_IMPORT_SECONDS = 900
_COMMIT = re.compile(r"[0-9a-f]{4,40}")


def repository_import_path(*, project_id: object, source: str, branch: str | None = None) -> RepositoryInfo:
    """Take over the branches and tags of a repository on this machine; its folder is only read.

    ``source`` has to be under one of ``ARCHON_REPOSITORY_ROOTS``, links resolved, with everything that its git dir
    points at. ``branch`` becomes the default branch (without it the one that is checked out there). What is there
    already is brought up to date; a branch that went another way here raises Conflict.
    """
    found = source_git_dir(source)
    upload_pack = upload_pack_command()
    with repository_locked(project_id):
        git_dir = repository_opened(project_id)
        try:
            listing = git_run(
                "ls-remote", "--symref", f"--upload-pack={upload_pack}", str(found),
                git_dir=git_dir, timeout=_IMPORT_SECONDS, protocol="file",
            )  # fmt: skip
            head_branch, head_commit, heads = remote_refs(listing.text)
            chosen = branch_choose(branch, head_branch, head_commit, heads)
            before = refs_read(git_dir, "refs/remotes/source/")
            git_run(
                "fetch", "--quiet", "--no-tags", "--update-shallow", "--no-write-fetch-head", "--prune", "--atomic",
                f"--upload-pack={upload_pack}", str(found),
                "+refs/heads/*:refs/remotes/source/*", f"^refs/heads/{SESSION_BRANCHES}/*",
                f"^refs/heads/{SESSION_BRANCHES}", "+refs/tags/*:refs/tags/*",
                git_dir=git_dir, timeout=_IMPORT_SECONDS, protocol="file",
            )  # fmt: skip
        except GitError as error:
            raise InvalidInput(
                f"The repository could not be read: {last_line(error.stderr)}",
                next_step="Run `git fsck` in it, mend what it reports, and import it again.",
            ) from error
        except Unavailable:
            # Room is what is missing: don't wait for the next import to make some.
            leftovers_delete(git_dir)
            raise
        return branches_publish(git_dir, before, chosen)


def repository_import_bundle(*, project_id: object, bundle_path: Path, branch: str | None = None) -> RepositoryInfo:
    """Take over what a git bundle holds; it has to be complete but for commits that are here already."""
    limit = settings.ARCHON_UPLOAD_LIMIT_MB * 1024 * 1024
    size = bundle_path.stat().st_size
    if size > limit:
        raise TooLarge(
            f"The bundle has {size // 1024 // 1024} MiB, more than the {settings.ARCHON_UPLOAD_LIMIT_MB} MiB allowed",
            next_step="Send fewer branches, or have the operator raise ARCHON_UPLOAD_LIMIT_MB.",
        )
    header = bundle_header(bundle_path)
    heads = {name.removeprefix("refs/heads/"): sha for name, sha in header.refs if name.startswith("refs/heads/")}
    head_commit = dict(header.refs).get("HEAD", "")
    if not heads and head_commit:
        heads = {branch or "main": head_commit}
    chosen = branch_choose(branch, "", head_commit, heads)
    with repository_locked(project_id):
        git_dir = repository_opened(project_id)
        missing = [commit for commit in header.prerequisites if not _commit_exists(git_dir, commit)]
        if missing:
            raise InvalidInput(
                f"The bundle is incomplete: it builds on {len(missing)} commit(s) not here ({missing[0][:12]})",
                next_step="Send all of the history: `git bundle create repository.bundle --all` (in a shallow clone "
                "run `git fetch --unshallow` first).",
            )
        wanted = {f"refs/remotes/source/{name}": sha for name, sha in heads.items() if not is_session_branch(name)}
        wanted |= {name: sha for name, sha in header.refs if name.startswith("refs/tags/")}
        _pack_receive(git_dir, bundle_path, header.pack_offset, limit, sorted(set(wanted.values())))
        before = refs_read(git_dir, "refs/remotes/source/")
        refs_update(git_dir, [f"update {name}\0{sha}\0\0" for name, sha in wanted.items()])
        return branches_publish(git_dir, before, chosen)


def repository_info(*, project_id: object) -> RepositoryInfo:
    """What is there now; NotFound when nothing was imported yet."""
    git_dir = repository_require(project_id)
    default = git_run("symbolic-ref", "--short", "HEAD", git_dir=git_dir).text
    branches = {name: sha for name, sha in refs_read(git_dir, "refs/heads/").items() if not is_session_branch(name)}
    if default not in branches:
        raise NotFound("The project has no repository yet", next_step="Import a folder or upload a git bundle.")
    return RepositoryInfo(default, branches[default], tuple(sorted(branches)))


def repository_delete(*, project_id: object) -> None:
    """Remove the repository; one that isn't there is fine."""
    path = repository_path(project_id=project_id)
    with repository_locked(project_id), contextlib.suppress(FileNotFoundError):
        # Renamed first: nobody ever meets half a repository.
        doomed = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            path.rename(doomed / path.name)
        finally:
            shutil.rmtree(doomed, ignore_errors=True)


def repository_notices(*, project_id: object, commit: str) -> tuple[Notice, ...]:
    """What a commit lacks in a repository that was not fetched: files of Git LFS, and submodules."""
    git_dir = repository_require(project_id)
    modules = [
        Notice(
            "submodule",
            path_display(module.path),
            "The submodule is not there: submodules come only with a repository that is fetched from an address.",
        )
        for module in submodules_list(git_dir=git_dir, commit=commit)
    ]
    return (*modules, *lfs_notices(git_dir=git_dir, commit=commit))


def branch_list(*, project_id: object) -> dict[str, str]:
    """Commits by the names of the branches, by name; the sessions' own are not among them."""
    branches = refs_read(repository_require(project_id), "refs/heads/")
    return {name: sha for name, sha in sorted(branches.items()) if not is_session_branch(name)}


def branch_default_set(*, project_id: object, branch: str) -> RepositoryInfo:
    """Have sessions start from another branch. NotFound when there is none of that name."""
    with repository_locked(project_id):
        return branch_select(repository_require(project_id), branch)


def repository_list(*, older_than: timedelta) -> list[uuid.UUID]:
    """The projects whose repositories are here and have not been touched for so long."""
    found = []
    for folder in (Path(settings.ARCHON_HOME) / "repositories").glob("*.git"):
        try:
            if time.time() - folder.stat().st_mtime > older_than.total_seconds():
                found.append(uuid.UUID(folder.stem))
        except (FileNotFoundError, ValueError):
            # Deleted meanwhile, or not a project's.
            continue
    return found


def commit_submodules(*, project_id: object, commit: str) -> tuple[str, ...]:
    """The paths of a commit's submodules."""
    return tuple(module.path for module in submodules_list(git_dir=repository_require(project_id), commit=commit))


def commit_resolve(*, project_id: object, revision: str) -> str:
    """The full id of the commit that a branch, a tag, ``HEAD`` or a (shortened) id names; else NotFound."""
    git_dir = repository_require(project_id)
    candidates = ["HEAD"] if revision == "HEAD" else [f"refs/heads/{revision}", f"refs/tags/{revision}"]
    if _COMMIT.fullmatch(revision):
        candidates.append(revision)
    for candidate in candidates:
        found = git_run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}",
            git_dir=git_dir, accepted=(0, 1, 128),
        )  # fmt: skip
        if found.returncode == 0:
            return found.text
    raise NotFound(f"There is no commit {revision!r} in the project's repository")


def diff_read(*, project_id: object, base: str, head: str, max_bytes: int = 1_000_000) -> Diff:
    """What changed from one commit or tree to another; the text is cut after ``max_bytes``, the list of files never."""
    return trees_compare(git_dir=repository_require(project_id), base=base, head=head, max_bytes=max_bytes)


def patch_make(*, project_id: object, base: str, head: str) -> Path:
    """What changed from one commit to another, for ``git apply``; a temporary file that the caller removes."""
    handle, name = tempfile.mkstemp(prefix="changes-", suffix=".patch", dir=temporary_folder())
    os.close(handle)
    try:
        if base != head:
            patch_write(git_dir=repository_require(project_id), base=base, head=head, target=Path(name))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def commit_paths(*, project_id: object, commit: str) -> tuple[str, ...]:
    """Every file of a commit (links included), by path."""
    listing = git_run("ls-tree", "-r", "-z", "--name-only", commit, git_dir=repository_require(project_id))
    return tuple(path_decode(path) for path in listing.stdout.split(b"\0") if path)


def commit_has_folder(*, project_id: object, commit: str, folder: str) -> bool:
    """Whether a commit has a folder of that path."""
    found = git_run(
        "cat-file", "-t", f"{commit}:{folder}", git_dir=repository_require(project_id), accepted=(0, 128)
    )  # fmt: skip
    return found.text == "tree"


def changed_paths(*, project_id: object, base: str, head: str) -> tuple[str, ...]:
    """Every path that is different in the two commits; of a renamed file both."""
    listing = git_run(
        "diff-tree", "-r", "-z", "--no-renames", "--name-only", base, head, git_dir=repository_require(project_id)
    )
    return tuple(path_decode(path) for path in listing.stdout.split(b"\0") if path)


def commit_files(
    *, project_id: object, commit: str, paths: Sequence[str], max_bytes: int = 1_000_000
) -> dict[str, bytes]:
    """The content of files of a commit; what isn't there, is no file or has more than ``max_bytes`` is left out."""
    git_dir = repository_require(project_id)
    found: dict[str, bytes] = {}
    if not paths:
        return found
    listing = git_run(
        "ls-tree", "-r", "-z", "-l", commit, "--", *paths, git_dir=git_dir, environment={"GIT_LITERAL_PATHSPECS": "1"}
    )
    for entry in filter(None, listing.stdout.split(b"\0")):
        described, raw_path = entry.split(b"\t", 1)
        mode, kind, sha, size = described.split()
        path = path_decode(raw_path)
        if kind == b"blob" and mode != b"120000" and int(size) <= max_bytes and path in paths:
            found[path] = git_run("cat-file", "blob", sha.decode(), git_dir=git_dir).stdout
    return found


def commit_is_imported(*, project_id: object, commit: str) -> bool:
    """Whether a commit is the users' own: on a branch of theirs, merged there or imported, and not only an agent's."""
    listing = git_run(
        "for-each-ref", "--format=%(refname)", f"--contains={commit}", "refs/heads/", "refs/remotes/source/",
        git_dir=repository_require(project_id),
    )  # fmt: skip
    names = (
        name.removeprefix("refs/heads/").removeprefix("refs/remotes/source/") for name in listing.text.splitlines()
    )
    return any(not is_session_branch(name) for name in names)


def commits_missing(*, project_id: object, commits: Sequence[str], within: str) -> tuple[str, ...]:
    """Of these commits those that are not in the history of ``within``, or not in the repository at all."""
    git_dir = repository_require(project_id)
    return tuple(
        commit
        for commit in dict.fromkeys(commits)
        if git_run(
            "merge-base", "--is-ancestor", commit, within, git_dir=git_dir, accepted=(0, 1, 128)
        ).returncode != 0
    )  # fmt: skip


def commit_overlay(
    *, project_id: object, commit: str, base: str, paths: Sequence[str], contents: Mapping[str, bytes] | None = None
) -> str:
    """A commit like ``commit`` whose ``paths`` are as in ``base`` (gone where ``base`` has none); on no branch.

    ``contents``: files that get these contents instead.
    """
    git_dir = repository_require(project_id)
    listing = git_run(
        "ls-tree", "-r", "-z", "--full-tree", base, "--", *paths,
        git_dir=git_dir, environment={"GIT_LITERAL_PATHSPECS": "1"},
    )  # fmt: skip
    removed = "".join(f"0 {'0' * 40}\t{path}\0" for path in paths).encode("utf-8", "surrogateescape")
    written = b"".join(
        b"100644 blob %s\t%s\0"
        % (
            git_run("hash-object", "-w", "--stdin", git_dir=git_dir, stdin=content).text.encode(),
            path.encode("utf-8", "surrogateescape"),
        )
        for path, content in (contents or {}).items()
    )
    # `<mode> blob <id>\t<path>` is what update-index reads as well.
    with tempfile.TemporaryDirectory(prefix="overlay-", dir=temporary_folder()) as folder:
        index = Path(folder) / "index"
        git_run("read-tree", commit, git_dir=git_dir, index=index)
        git_run(
            "update-index", "-z", "--index-info", git_dir=git_dir, index=index, stdin=removed + listing.stdout + written
        )
        tree = git_run("write-tree", git_dir=git_dir, index=index).text
    return git_run(
        "commit-tree", tree, "-p", commit, "-m", "Original tests",
        git_dir=git_dir, environment=git_identity(date=NO_DATE),
    ).text  # fmt: skip


def branch_merge(*, project_id: object, branch: str, into: str, expected: str) -> str:
    """Bring a branch into another that stands at ``expected``; returns the commit that ``into`` is then at.

    Fast-forward where that is possible, else a merge commit. Conflict, with ``state`` ``target_moved`` or
    ``merge_conflict`` (and ``files``), leaves all as it was. Merging what is merged already changes nothing.
    """
    git_dir = repository_require(project_id)
    source = commit_resolve(project_id=project_id, revision=branch)
    target = commit_resolve(project_id=project_id, revision=into)
    if is_ancestor(git_dir, source, target):
        return target
    if target != expected:
        raise Conflict(
            f"{into} has moved: it is at {target[:12]}, not at {expected[:12]}",
            next_step=f"Put the session's branch onto {into} as it is now (archon rebase SESSION, or POST rebase/ to "
            "the session), which checks it anew, and merge it then.",
            state="target_moved",
            commit=target,
        )
    if is_ancestor(git_dir, target, source):
        merged = source
    else:
        result = git_run(
            "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", target, source,
            git_dir=git_dir, accepted=(0, 1),
        )  # fmt: skip
        tree, *conflicting = result.stdout.rstrip(b"\0").split(b"\0")
        if result.returncode:
            files = [path_display(path_decode(path)) for path in conflicting]
            raise Conflict(
                f"{branch} and {into} change the same lines in {', '.join(files[:5])}",
                next_step="Download the branch, merge it by hand, and import the result.",
                state="merge_conflict",
                files=files,
            )
        merged = git_run(
            "commit-tree", tree.decode(), "-p", target, "-p", source, "-m", f"Merge {branch} into {into}",
            git_dir=git_dir, environment=git_identity(),
        ).text  # fmt: skip
    kill_point("merge.before")
    try:
        git_run("update-ref", f"refs/heads/{into}", merged, target, git_dir=git_dir)
    except GitError as error:
        raise Conflict(f"{into} has moved meanwhile", next_step="Merge again.", state="target_moved") from error
    kill_point("merge.moved")
    return merged


def branch_delete(*, project_id: object, branch: str) -> None:
    """Remove a branch; one that isn't there is fine, the default branch is refused."""
    git_dir = repository_require(project_id)
    if git_run("symbolic-ref", "--short", "HEAD", git_dir=git_dir).text == branch:
        raise Conflict(f"{branch} is the project's default branch", state="default_branch")
    git_run("update-ref", "-d", f"refs/heads/{branch}", git_dir=git_dir)


def branch_bundle(*, project_id: object, branch: str, base: str = "") -> Path:
    """A git bundle of a branch, without what ``base`` has; a temporary file that the caller removes.

    A branch that has nothing beyond ``base`` raises Conflict, since git knows no empty bundle.
    """
    git_dir = repository_require(project_id)
    commit = commit_resolve(project_id=project_id, revision=branch)
    if base and is_ancestor(git_dir, commit, base):
        raise Conflict(f"{branch} has no commits of its own", state="empty")
    handle, name = tempfile.mkstemp(prefix="branch-", suffix=".bundle", dir=temporary_folder())
    os.close(handle)
    try:
        git_run(
            "bundle", "create", "--quiet", name, f"refs/heads/{branch}", *([f"^{base}"] if base else []),
            git_dir=git_dir, timeout=_IMPORT_SECONDS,
        )  # fmt: skip
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


# --- The repository itself --------------------------------------------------------------------------------------------


def _pack_receive(git_dir: Path, bundle: Path, offset: int, limit: int, commits: Sequence[str]) -> None:
    """Take the pack of a bundle in: checked in a place apart, kept only when it is whole."""
    quarantine = Path(tempfile.mkdtemp(prefix="incoming-", dir=git_dir / "objects"))
    apart = {
        "GIT_OBJECT_DIRECTORY": str(quarantine),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(git_dir / "objects"),
    }
    try:
        with bundle.open("rb", buffering=0) as file:
            os.lseek(file.fileno(), offset, os.SEEK_SET)
            git_run(
                "index-pack", "--stdin", "--fix-thin", f"--strict={FSCK_SEVERITIES}", f"--max-input-size={limit}",
                git_dir=git_dir, environment=apart, stdin=file, timeout=_IMPORT_SECONDS,
            )  # fmt: skip
        git_run(
            "rev-list", "--objects", "--quiet", "--stdin", "--not", "--all",
            git_dir=git_dir, environment=apart, stdin="".join(f"{commit}\n" for commit in commits).encode(),
            timeout=_IMPORT_SECONDS,
        )  # fmt: skip
        # Packs before their indexes: a pack without one is not seen, the other way round is an error.
        for file_path in sorted((quarantine / "pack").iterdir(), key=lambda entry: entry.suffix == ".idx"):
            file_path.rename(git_dir / "objects" / "pack" / file_path.name)
    except GitError as error:
        raise InvalidInput(
            f"The bundle is damaged or incomplete: {last_line(error.stderr)}",
            next_step="Make it anew with `git bundle create repository.bundle --all`, and check it with "
            "`git bundle verify repository.bundle`.",
        ) from error
    finally:
        shutil.rmtree(quarantine, ignore_errors=True)


def _commit_exists(git_dir: Path, commit: str) -> bool:
    return git_run("cat-file", "-e", f"{commit}^{{commit}}", git_dir=git_dir, accepted=(0, 1, 128)).returncode == 0
