"""An archive's files as a commit of a project's repository."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from django.conf import settings

from apps.core.errors import InvalidInput, TooLarge
from apps.projects.archive_reading import ArchiveCount, ArchiveEntry, ArchiveRefused, archive_entries, damage_told
from apps.projects.git import GitError, full_disk_told, git_identity, git_run, upload_pack_command
from apps.projects.repository_store import (
    RepositoryInfo,
    branch_select,
    last_line,
    leftovers_delete,
    refs_read,
    refs_update,
    repository_locked,
    repository_opened,
    temporary_folder,
)

_BRANCH = "main"
_CHUNK = 1 << 16
_SECONDS = 900


def repository_import_archive(*, project_id: object, archive_path: Path, message: str = "") -> RepositoryInfo:
    """Commit what the archive holds on the default branch, on top of what is there; the same files change nothing.

    A folder that everything is in is taken off. Raises InvalidInput or TooLarge for an archive that can't be taken,
    and nothing has changed then.
    """
    limit = settings.ARCHON_REPOSITORY_LIMIT_MB * 1024 * 1024
    with (
        full_disk_told("the archive could not be taken in"),
        tempfile.TemporaryDirectory(prefix="archive-", dir=temporary_folder()) as apart,
    ):
        scratch = Path(apart) / "scratch.git"
        # In a repository of its own, so that what is refused in the middle never was in the project's.
        git_run("init", "--quiet", "--bare", "--template=", f"--initial-branch={_BRANCH}", str(scratch))
        tree = _tree_make(scratch, archive_path, limit)
        with repository_locked(project_id):
            return _commit(repository_opened(project_id), scratch, tree, message)


def _tree_make(scratch: Path, archive_path: Path, limit: int) -> str:
    count = ArchiveCount()
    tops: set[str] = set()
    with tempfile.TemporaryFile(dir=scratch.parent) as stream:
        with damage_told():
            _stream_write(stream, archive_entries(archive_path, limit_bytes=limit, count=count), tops, limit)
        if not tops:
            raise ArchiveRefused(
                "There is no file in the archive" + (" besides a .git" if count.git_entries else ""),
                next_step="Put the project's files into it.",
            )
        stream.seek(0)
        try:
            git_run("fast-import", "--quiet", "--done", "--force", git_dir=scratch, stdin=stream, timeout=_SECONDS)
        except GitError as error:
            raise InvalidInput(
                f"git could not take the archive's files: {last_line(error.stderr)}",
                next_step="Make the archive again.",
            ) from error
    if len(tops) == 1:
        only = next(iter(tops))
        found = git_run("ls-tree", "-z", f"{_BRANCH}", git_dir=scratch).stdout
        kind = found.split(b"\t", 1)[0].split()[1]
        if kind == b"tree":
            return git_run("rev-parse", f"{_BRANCH}:{only}", git_dir=scratch).text
    return git_run("rev-parse", f"{_BRANCH}^{{tree}}", git_dir=scratch).text


def _stream_write(stream: IO[bytes], entries: Iterator[ArchiveEntry], tops: set[str], limit: int) -> None:
    """What ``git fast-import`` reads: one commit of all entries."""
    stream.write(b"feature done\ncommit refs/heads/%s\ncommitter Archon <archon@localhost> 0 +0000\ndata 0\n" % b"main")
    total = 0
    for entry in entries:
        tops.add(entry.path.split("/", 1)[0])
        mode = b"120000" if entry.kind == "link" else b"100755" if entry.executable else b"100644"
        stream.write(b"M %s inline %s\n" % (mode, _quoted(entry.path)))
        if entry.kind == "link":
            target = entry.target.encode("utf-8", "surrogateescape")
            stream.write(b"data %d\n%s\n" % (len(target), target))
            continue
        assert entry.content is not None
        total += entry.size
        if total > limit:
            raise TooLarge(
                f"The archive's files take more than {limit >> 20} MiB",
                next_step="Leave out what isn't source, or have the operator raise ARCHON_REPOSITORY_LIMIT_MB.",
            )
        stream.write(b"data %d\n" % entry.size)
        written = 0
        while chunk := entry.content.read(_CHUNK):
            written += len(chunk)
            stream.write(chunk)
        if written != entry.size:
            raise ArchiveRefused(f"{entry.path!r} is cut off", next_step="Make the archive again.")
        stream.write(b"\n")
    stream.write(b"done\n")


def _quoted(path: str) -> bytes:
    raw = path.encode("utf-8", "surrogateescape")
    return b'"' + b"".join(_escaped(byte) for byte in raw) + b'"'


def _escaped(byte: int) -> bytes:
    return bytes([byte]) if 32 <= byte < 127 and byte not in b'"\\' else b"\\%03o" % byte


def _commit(git_dir: Path, scratch: Path, tree: str, message: str) -> RepositoryInfo:
    default = git_run("symbolic-ref", "--short", "HEAD", git_dir=git_dir).text
    here = refs_read(git_dir, "refs/heads/")
    parent = here.get(default, "")
    now = f"@{int(time.time())} +0000"
    identity = git_identity(date=now)
    text = (message.strip() or ("Files from an archive" if parent else "First commit")).encode("utf-8", "replace")
    made = git_run("commit-tree", tree, "-F", "-", git_dir=scratch, environment=identity, stdin=text + b"\n").text
    git_run("update-ref", f"refs/heads/{_BRANCH}", made, git_dir=scratch)
    try:
        # Checked object by object on the way, as whatever comes in is.
        git_run(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", f"--upload-pack={upload_pack_command()}",
            str(scratch), f"+refs/heads/{_BRANCH}:refs/archive/last",
            git_dir=git_dir, timeout=_SECONDS, protocol="file",
        )  # fmt: skip
    except GitError as error:
        leftovers_delete(git_dir)
        raise InvalidInput(
            f"The archive's files can't be taken: {last_line(error.stderr)}", next_step="Rename or leave out that file."
        ) from error
    if parent and git_run("rev-parse", f"{parent}^{{tree}}", git_dir=git_dir).text == tree:
        commit = parent
    else:
        commit = git_run(
            "commit-tree", tree, *(["-p", parent] if parent else []), "-F", "-",
            git_dir=git_dir, environment=identity, stdin=text + b"\n",
        ).text  # fmt: skip
    refs_update(
        git_dir,
        [
            f"update refs/heads/{default}\0{commit}\0{parent or '0' * 40}\0",
            f"update refs/remotes/source/{default}\0{commit}\0\0",
            "delete refs/archive/last\0\0",
        ],
    )
    return branch_select(git_dir, default)
