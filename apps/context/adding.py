"""Files that people put into a project's context by hand (what rules leave out, what the repository lacks), or hide."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from apps.context.jobs import index_get_or_create, job_want
from apps.context.models import AddedFile, CodeFile, CodeIndex, IndexJob
from apps.context.walking import is_binary
from apps.core.errors import Conflict, InvalidInput, NotFound, TooLarge
from apps.projects.git import git_run
from apps.projects.models import Project, RepositoryState
from apps.projects.repository import commit_resolve, repository_path

#: Of one file, and of all files of one project that came with a content.
ADDED_BYTES = 4 << 20
ADDED_FILES = 1_000
_PATH_CHARACTERS = 1_000


def file_add(
    *, project: Project, path: str, content: str | None = None, hidden: bool = False
) -> tuple[AddedFile, IndexJob]:
    """Have a file in the context whatever the rules say; with ``content`` one that stands for it at that path; with
    ``hidden`` none at all there.

    Without a content the repository has to have it. Raises InvalidInput, NotFound, TooLarge, Conflict.
    """
    if hidden and content is not None:
        raise InvalidInput("A file that is hidden has no content.", next_step="send one of both")
    if project.repository_state != RepositoryState.READY:
        raise Conflict("The project has no repository yet.", state=project.repository_state)
    clean = _path_clean(path)
    git_dir = repository_path(project_id=project.id)
    blob, size = "", 0
    if content is not None:
        raw = content.encode("utf-8", "replace")
        if is_binary(raw):
            raise InvalidInput("The content is binary: it holds a NUL character.", next_step="send text")
        size = len(raw)
        _size_check(size)
        blob = git_run("hash-object", "-w", "--stdin", git_dir=git_dir, stdin=raw).text
    else:
        commit = commit_resolve(project_id=project.id, revision=project.head_commit or "HEAD")
        found = git_run(
            "cat-file", "--batch-check=%(objecttype) %(objectsize)",
            git_dir=git_dir, stdin=f"{commit}:{clean}\n".encode("utf-8", "surrogateescape"),
        ).text.split(" ")  # fmt: skip
        if found[0] != "blob":
            raise NotFound(
                f"The repository has no file {clean} at {commit[:12]}", next_step="send its content, or check the path"
            )
        size = int(found[1])
        if not hidden:
            _size_check(size)
    index = index_get_or_create(project)
    with transaction.atomic():
        CodeIndex.objects.select_for_update().get(id=index.id)
        if AddedFile.objects.filter(index=index).exclude(path=clean).count() >= ADDED_FILES:
            raise Conflict(
                f"The project has {ADDED_FILES} added files already.",
                next_step="take some away, or put them into the repository",
            )
        added, _ = AddedFile.objects.update_or_create(
            index=index, path=clean, defaults={"blob": blob, "size": size, "hidden": hidden}
        )
        CodeIndex.objects.filter(id=index.id).update(added_version=F("added_version") + 1)
        job = job_want(project=project)
    return added, job


def file_remove(*, project: Project, file: CodeFile) -> IndexJob:
    """Have a path be as the repository has it again. Raises Conflict for one that is so by itself."""
    job = path_remove(project=project, path=file.path)
    if job is None:
        raise Conflict(
            "The file was not added by hand: the repository has it.",
            next_step="name it in .archonignore to leave it out, or hide it",
        )
    return job


def path_remove(*, project: Project, path: str) -> IndexJob | None:
    """Forget what was added or hidden at the path, whether it is indexed yet or not; None: nothing was."""
    with transaction.atomic():
        deleted, _ = AddedFile.objects.filter(index__project=project, path=_path_clean(path)).delete()
        if not deleted:
            return None
        CodeIndex.objects.filter(project=project).update(added_version=F("added_version") + 1)
        return job_want(project=project)


def _size_check(size: int) -> None:
    if size > ADDED_BYTES:
        raise TooLarge(
            f"The file has {size >> 10} KiB, more than the {ADDED_BYTES >> 10} KiB that can be added",
            next_step="add a part of it",
        )


def _path_clean(path: str) -> str:
    parts = [part for part in path.strip().split("/") if part not in ("", ".")]
    unusable = not parts or ".." in parts or path.strip().startswith("/") or len(path) > _PATH_CHARACTERS
    if unusable or any(ord(character) < 32 for character in path):
        raise InvalidInput(
            f"{path[:100]!r} is no path relative to the repository's root", next_step="write it as a/b.py"
        )
    return "/".join(parts)
