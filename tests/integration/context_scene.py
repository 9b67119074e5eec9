"""Projects with code in them, indexed in the test's own process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apps.authentication.models import User
from apps.context.indexing import index_run
from apps.context.jobs import job_want
from apps.context.models import IndexJob, JobTarget
from apps.context.searching.search import code_search
from apps.context.types import SearchFilters, SearchMode, SearchRequest, SearchResult, session_files
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.repository import repository_path
from apps.projects.services import project_create
from tests.api import user_make
from tests.builders import git

GREETING = '''"""Says hello."""

import os


class Greeter:
    """Greets people by their name."""

    def greet_person(self, name: str) -> str:
        """A greeting for one person."""
        return f"Hello {name}"


def parseHTTPHeader(line):
    # TODO: fold continuation lines
    key, _, value = line.partition(":")
    return key.strip().lower(), value.strip()
'''
FILES: dict[str, str | bytes] = {
    "greeting/__init__.py": "",
    "greeting/people.py": GREETING,
    "greeting/main.py": (
        "from greeting.people import Greeter\n\n\ndef main():\n    print(Greeter().greet_person('you'))\n"
    ),
    "README.md": "# Sample\n\nGreets people.\n\n## Usage\n\nRun it with zebra stripes.\n",
}


@dataclass
class Code:
    """A project, its owner, and the folder that its repository was imported from."""

    project: Project
    user: User
    folder: Path

    def commit(self, files: Mapping[str, str | bytes | None], message: str = "change") -> str:
        """Change files (None: delete) and have the project's repository at that commit."""
        files_write(self.folder, files)
        git(self.folder, "add", "-A", "-f")
        git(self.folder, "commit", "-q", "--allow-empty", "-m", message)
        commit = git(self.folder, "rev-parse", "HEAD")
        git_dir = repository_path(project_id=self.project.id)
        git_run("fetch", "-q", str(self.folder), "+HEAD:refs/heads/main", git_dir=git_dir, protocol="file")
        Project.objects.filter(id=self.project.id).update(head_commit=commit)
        self.project.refresh_from_db()
        return commit

    def index(self, *, rebuild: bool = False) -> IndexJob:
        """Bring the index up to date, here and now."""
        return job_finish(job_want(project=self.project, rebuild=rebuild))

    def index_session(self, session_id: object, tree: str) -> IndexJob:
        job = job_want(project=self.project, target=JobTarget.SESSION, session_id=session_id, revision=tree)  # type: ignore[arg-type]
        return job_finish(job)

    def search(
        self,
        query: str,
        mode: SearchMode = "text",
        *,
        session_id: object = None,
        filters: SearchFilters | None = None,
        explain: bool = False,
        limit: int = 10,
    ) -> SearchResult:
        request = SearchRequest(
            query=query, mode=mode, filters=filters or SearchFilters(), explain=explain, limit=limit
        )
        return code_search(project=self.project, request=request, files=session_files(session_id))  # type: ignore[arg-type]

    def paths(self, query: str, mode: SearchMode = "text", **options: object) -> list[str]:
        return [hit.path for hit in self.search(query, mode, **options).hits]  # type: ignore[arg-type]


def job_finish(job: IndexJob) -> IndexJob:
    index_run(index_id=job.index_id)
    job.refresh_from_db()
    return job


def files_write(folder: Path, files: Mapping[str, str | bytes | None]) -> None:
    for path, content in files.items():
        target = folder / path
        if content is None:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)


def code_make(tmp_path: Path, files: Mapping[str, str | bytes] | None = None, *, user: User | None = None) -> Code:
    """A project of these files, not indexed yet."""
    folder = tmp_path / "source"
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    files_write(folder, FILES if files is None else files)
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    owner = user or user_make()
    before = settings.ARCHON_REPOSITORY_ROOTS
    settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
    try:
        project = project_create(user=owner, name="sample", repository_path=str(folder))
    finally:
        settings.ARCHON_REPOSITORY_ROOTS = before
    return Code(project, owner, folder)


def tree_make(code: Code, files: Mapping[str, str | bytes | None]) -> str:
    """A tree in the project's repository: the last commit with these changes, as a session's snapshot is one."""
    files_write(code.folder, files)
    git(code.folder, "add", "-A", "-f")
    tree = git(code.folder, "write-tree")
    commit = git(code.folder, "commit-tree", tree, "-p", "HEAD", "-m", "snapshot")
    git(code.folder, "update-ref", "refs/heads/snapshot", commit)
    git_dir = repository_path(project_id=code.project.id)
    git_run("fetch", "-q", str(code.folder), "+refs/heads/snapshot:refs/archon/test", git_dir=git_dir, protocol="file")
    git(code.folder, "reset", "-q", "--hard", "HEAD")
    return tree
