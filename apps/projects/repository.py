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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apps.core.errors import Conflict, InvalidInput, NotFound, TooLarge, Unavailable
from apps.projects.git import (
    FSCK_SEVERITIES,
    GitError,
    full_disk_told,
    git_run,
    path_decode,
    path_display,
    upload_pack_command,
)
from apps.projects.repository_diff import Diff, trees_compare
from apps.projects.repository_source import (
    SESSION_BRANCHES,
    branch_choose,
    bundle_header,
    is_session_branch,
    remote_refs,
    source_git_dir,
)
from integrations.posix import fcntl

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

_IMPORT_SECONDS = 900
_COMMIT = re.compile(r"[0-9a-f]{4,40}")
_SERVER_IDENTITY = {
    "GIT_AUTHOR_NAME": "Archon",
    "GIT_AUTHOR_EMAIL": "archon@localhost",
    "GIT_COMMITTER_NAME": "Archon",
    "GIT_COMMITTER_EMAIL": "archon@localhost",
}


@dataclass(frozen=True)
class RepositoryInfo:
    default_branch: str
    head_commit: str
    #: Without the sessions' own.
    branches: tuple[str, ...]


def repository_path(*, project_id: object) -> Path:
    """Where the project's bare repository is, or will be."""
    return Path(settings.ARCHON_HOME) / "repositories" / f"{project_id}.git"


def repository_import_path(*, project_id: object, source: str, branch: str | None = None) -> RepositoryInfo:
    """Take over the branches and tags of a repository on this machine; its folder is only read.

    ``source`` has to be under one of ``ARCHON_REPOSITORY_ROOTS``, links resolved, with everything that its git dir
    points at. ``branch`` becomes the default branch (without it the one that is checked out there). What is there
    already is brought up to date; a branch that went another way here raises Conflict.
    """
    found = source_git_dir(source)
    upload_pack = upload_pack_command()
    with _locked(project_id):
        git_dir = _repository_open(project_id)
        try:
            listing = git_run(
                "ls-remote", "--symref", f"--upload-pack={upload_pack}", str(found),
                git_dir=git_dir, timeout=_IMPORT_SECONDS, allow_file_protocol=True,
            )  # fmt: skip
            head_branch, head_commit, heads = remote_refs(listing.text)
            chosen = branch_choose(branch, head_branch, head_commit, heads)
            before = _refs(git_dir, "refs/remotes/source/")
            git_run(
                "fetch", "--quiet", "--no-tags", "--update-shallow", "--no-write-fetch-head", "--prune", "--atomic",
                f"--upload-pack={upload_pack}", str(found),
                "+refs/heads/*:refs/remotes/source/*", f"^refs/heads/{SESSION_BRANCHES}/*",
                f"^refs/heads/{SESSION_BRANCHES}", "+refs/tags/*:refs/tags/*",
                git_dir=git_dir, timeout=_IMPORT_SECONDS, allow_file_protocol=True,
            )  # fmt: skip
        except GitError as error:
            raise InvalidInput(
                f"The repository could not be read: {_last_line(error.stderr)}",
                next_step="Run `git fsck` in it, mend what it reports, and import it again.",
            ) from error
        except Unavailable:
            # Room is what is missing: don't wait for the next import to make some.
            _leftovers_delete(git_dir)
            raise
        return _branches_publish(git_dir, before, chosen)


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
    with _locked(project_id):
        git_dir = _repository_open(project_id)
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
        before = _refs(git_dir, "refs/remotes/source/")
        _refs_update(git_dir, [f"update {name}\0{sha}\0\0" for name, sha in wanted.items()])
        return _branches_publish(git_dir, before, chosen)


def repository_info(*, project_id: object) -> RepositoryInfo:
    """What is there now; NotFound when nothing was imported yet."""
    git_dir = _repository_require(project_id)
    default = git_run("symbolic-ref", "--short", "HEAD", git_dir=git_dir).text
    branches = {name: sha for name, sha in _refs(git_dir, "refs/heads/").items() if not is_session_branch(name)}
    if default not in branches:
        raise NotFound("The project has no repository yet", next_step="Import a folder or upload a git bundle.")
    return RepositoryInfo(default, branches[default], tuple(sorted(branches)))


def repository_delete(*, project_id: object) -> None:
    """Remove the repository; one that isn't there is fine."""
    path = repository_path(project_id=project_id)
    with _locked(project_id), contextlib.suppress(FileNotFoundError):
        # Renamed first: nobody ever meets half a repository.
        doomed = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            path.rename(doomed / path.name)
        finally:
            shutil.rmtree(doomed, ignore_errors=True)


def commit_resolve(*, project_id: object, revision: str) -> str:
    """The full id of the commit that a branch, a tag, ``HEAD`` or a (shortened) id names; else NotFound."""
    git_dir = _repository_require(project_id)
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
    return trees_compare(git_dir=_repository_require(project_id), base=base, head=head, max_bytes=max_bytes)


def commit_paths(*, project_id: object, commit: str) -> tuple[str, ...]:
    """Every file of a commit (links included), by path."""
    listing = git_run("ls-tree", "-r", "-z", "--name-only", commit, git_dir=_repository_require(project_id))
    return tuple(path_decode(path) for path in listing.stdout.split(b"\0") if path)


def changed_paths(*, project_id: object, base: str, head: str) -> tuple[str, ...]:
    """Every path that is different in the two commits; of a renamed file both."""
    listing = git_run(
        "diff-tree", "-r", "-z", "--no-renames", "--name-only", base, head, git_dir=_repository_require(project_id)
    )
    return tuple(path_decode(path) for path in listing.stdout.split(b"\0") if path)


def commit_files(
    *, project_id: object, commit: str, paths: Sequence[str], max_bytes: int = 1_000_000
) -> dict[str, bytes]:
    """The content of files of a commit; what isn't there, is no file or has more than ``max_bytes`` is left out."""
    git_dir = _repository_require(project_id)
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
        git_dir=_repository_require(project_id),
    )  # fmt: skip
    names = (
        name.removeprefix("refs/heads/").removeprefix("refs/remotes/source/") for name in listing.text.splitlines()
    )
    return any(not is_session_branch(name) for name in names)


def commit_overlay(*, project_id: object, commit: str, base: str, paths: Sequence[str]) -> str:
    """A commit like ``commit`` whose ``paths`` are as in ``base`` (gone where ``base`` has none); on no branch."""
    git_dir = _repository_require(project_id)
    listing = git_run(
        "ls-tree", "-r", "-z", "--full-tree", base, "--", *paths,
        git_dir=git_dir, environment={"GIT_LITERAL_PATHSPECS": "1"},
    )  # fmt: skip
    removed = "".join(f"0 {'0' * 40}\t{path}\0" for path in paths).encode("utf-8", "surrogateescape")
    # `<mode> blob <id>\t<path>` is what update-index reads as well.
    with tempfile.TemporaryDirectory(prefix="overlay-", dir=_temporary()) as folder:
        index = Path(folder) / "index"
        git_run("read-tree", commit, git_dir=git_dir, index=index)
        git_run("update-index", "-z", "--index-info", git_dir=git_dir, index=index, stdin=removed + listing.stdout)
        tree = git_run("write-tree", git_dir=git_dir, index=index).text
    dates = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"}
    return git_run(
        "commit-tree", tree, "-p", commit, "-m", "Original tests",
        git_dir=git_dir, environment={**_SERVER_IDENTITY, **dates},
    ).text  # fmt: skip


def branch_merge(*, project_id: object, branch: str, into: str, expected: str) -> str:
    """Bring a branch into another that stands at ``expected``; returns the commit that ``into`` is then at.

    Fast-forward where that is possible, else a merge commit. Conflict, with ``state`` ``target_moved`` or
    ``merge_conflict`` (and ``files``), leaves all as it was. Merging what is merged already changes nothing.
    """
    git_dir = _repository_require(project_id)
    source = commit_resolve(project_id=project_id, revision=branch)
    target = commit_resolve(project_id=project_id, revision=into)
    if _is_ancestor(git_dir, source, target):
        return target
    if target != expected:
        raise Conflict(
            f"{into} has moved: it is at {target[:12]}, not at {expected[:12]}",
            next_step="Fetch the branch and merge it by hand, or start a new session on the branch as it is now.",
            state="target_moved",
            commit=target,
        )
    if _is_ancestor(git_dir, target, source):
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
            git_dir=git_dir, environment=_SERVER_IDENTITY,
        ).text  # fmt: skip
    try:
        git_run("update-ref", f"refs/heads/{into}", merged, target, git_dir=git_dir)
    except GitError as error:
        raise Conflict(f"{into} has moved meanwhile", next_step="Merge again.", state="target_moved") from error
    return merged


def branch_delete(*, project_id: object, branch: str) -> None:
    """Remove a branch; one that isn't there is fine, the default branch is refused."""
    git_dir = _repository_require(project_id)
    if git_run("symbolic-ref", "--short", "HEAD", git_dir=git_dir).text == branch:
        raise Conflict(f"{branch} is the project's default branch", state="default_branch")
    git_run("update-ref", "-d", f"refs/heads/{branch}", git_dir=git_dir)


def branch_bundle(*, project_id: object, branch: str, base: str = "") -> Path:
    """A git bundle of a branch, without what ``base`` has; a temporary file that the caller removes.

    A branch that has nothing beyond ``base`` raises Conflict, since git knows no empty bundle.
    """
    git_dir = _repository_require(project_id)
    commit = commit_resolve(project_id=project_id, revision=branch)
    if base and _is_ancestor(git_dir, commit, base):
        raise Conflict(f"{branch} has no commits of its own", state="empty")
    handle, name = tempfile.mkstemp(prefix="branch-", suffix=".bundle", dir=_temporary())
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


@contextlib.contextmanager
def _locked(project_id: object) -> Iterator[None]:
    """One writer of the repository's layout at a time, over all processes."""
    path = repository_path(project_id=project_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with full_disk_told("the repository could not be written"), path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _repository_open(project_id: object) -> Path:
    path = repository_path(project_id=project_id)
    if path.exists():
        _leftovers_delete(path)
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


def _leftovers_delete(git_dir: Path) -> None:
    """Remove what an import that was killed or found the disk full left behind; its lock has to be held."""
    for unfinished in (git_dir / "objects" / "pack").glob("tmp_*"):
        unfinished.unlink(missing_ok=True)
    for quarantine in (git_dir / "objects").glob("incoming-*"):
        shutil.rmtree(quarantine, ignore_errors=True)


def _temporary() -> Path:
    folder: Path = settings.ARCHON_HOME / "temporary"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _repository_require(project_id: object) -> Path:
    path = repository_path(project_id=project_id)
    if not path.exists():
        raise NotFound("The project has no repository yet", next_step="Import a folder or upload a git bundle.")
    return path


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
            f"The bundle is damaged or incomplete: {_last_line(error.stderr)}",
            next_step="Make it anew with `git bundle create repository.bundle --all`, and check it with "
            "`git bundle verify repository.bundle`.",
        ) from error
    finally:
        shutil.rmtree(quarantine, ignore_errors=True)


def _branches_publish(git_dir: Path, before: dict[str, str], chosen: str) -> RepositoryInfo:
    """Move the project's branches to where the source has them, unless that would lose commits made here."""
    source, here = _refs(git_dir, "refs/remotes/source/"), _refs(git_dir, "refs/heads/")
    updates = []
    for name, theirs in source.items():
        ours = here.get(name)
        if is_session_branch(name) or ours == theirs:
            continue
        if ours is None:
            updates.append(f"create refs/heads/{name}\0{theirs}\0")
        elif ours == before.get(name) or _is_ancestor(git_dir, ours, theirs):
            updates.append(f"update refs/heads/{name}\0{theirs}\0{ours}\0")
        elif name == chosen and not _is_ancestor(git_dir, theirs, ours):
            raise Conflict(
                f"{name} went on in both places: {ours[:12]} here, {theirs[:12]} in the source",
                next_step=f"Download {name} from here, merge it into yours, and import again.",
                state="diverged",
            )
    _refs_update(git_dir, updates)
    git_run("symbolic-ref", "HEAD", f"refs/heads/{chosen}", git_dir=git_dir)
    branches = {name: sha for name, sha in _refs(git_dir, "refs/heads/").items() if not is_session_branch(name)}
    return RepositoryInfo(chosen, branches[chosen], tuple(sorted(branches)))


def _refs(git_dir: Path, prefix: str) -> dict[str, str]:
    """Commits by the names of the refs below ``prefix``, which is left off."""
    listing = git_run("for-each-ref", "--format=%(objectname) %(refname)", prefix, git_dir=git_dir).text
    return {name.removeprefix(prefix): sha for sha, _, name in (line.partition(" ") for line in listing.splitlines())}


def _refs_update(git_dir: Path, commands: Sequence[str]) -> None:
    """Carry out ``update-ref`` commands, all or none."""
    if commands:
        script = "".join(commands).encode("utf-8", "surrogateescape")
        git_run("update-ref", "-z", "--stdin", git_dir=git_dir, stdin=script)


def _commit_exists(git_dir: Path, commit: str) -> bool:
    return git_run("cat-file", "-e", f"{commit}^{{commit}}", git_dir=git_dir, accepted=(0, 1, 128)).returncode == 0


def _is_ancestor(git_dir: Path, ancestor: str, descendant: str) -> bool:
    return (
        git_run("merge-base", "--is-ancestor", ancestor, descendant, git_dir=git_dir, accepted=(0, 1)).returncode == 0
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return path_display(lines[-1])[:500] if lines else "no reason given"
