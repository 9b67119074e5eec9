"""A project whose origin is a forge on loopback, and a session in it that has completed: where publishing starts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils import timezone

from apps.agents.models import AgentSession, Publication
from apps.agents.services.publish_jobs import publish_execute
from apps.authentication.models import User
from apps.projects.fetching import fetch_execute
from apps.projects.models import Project, RepositorySource
from apps.projects.repository import repository_path
from tests.api import CheckedClient, client_for, user_make
from tests.builders import GIT_IDENTITY, git, repository_build, session_build
from tests.loopback.forge_server import ForgeServer, Repository
from tests.loopback.git_server import GitServer, git_server_run

TOKEN = "tok-CANARY-0815"
NAME = "team/app"
GOAL = "Handle empty input in the parser, and say so"


@dataclass
class Scene:
    """``origin`` is the repository as its forge has it."""

    git: GitServer
    forge: ForgeServer
    origin: Path
    repository: Repository
    user: User
    client: CheckedClient
    project: Project
    session: AgentSession

    @property
    def address(self) -> str:
        return f"/api/agents/sessions/{self.session.id}/publish/"

    def asked(self, **members: Any) -> dict[str, Any]:
        answer = self.client.post(self.address, {"pull_request": True, **members})
        assert answer.status_code == 202, answer.json()
        told: dict[str, Any] = answer.json()
        return told

    def published(self, **members: Any) -> dict[str, Any]:
        """Asked for and carried out, as a worker does; how it stands then."""
        self.asked(**members)
        return self.carried_out()

    def carried_out(self) -> dict[str, Any]:
        publish_execute(publication_id=Publication.objects.get(session=self.session).id)
        told: dict[str, Any] = self.client.get(self.address).json()
        return told

    def head(self, branch: str) -> str:
        """The commit of a branch on the origin; empty: there is none."""
        found = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"],
            cwd=self.origin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return found.stdout.strip()

    def commit_more(self, message: str = "More", *, onto: str = "") -> str:
        """The session has gone on: a commit more on its branch (or on another base), judged as before."""
        git_dir = repository_path(project_id=self.project.id)
        parent = onto or self.session.head_commit
        commit = commit_make(git_dir, parent, {"more.txt": message})
        git(git_dir, "update-ref", f"refs/heads/{self.session.branch}", commit)
        AgentSession.objects.filter(id=self.session.id).update(head_commit=commit)
        self.session.refresh_from_db()
        return commit


@contextmanager
def publish_scene(kind: str, folder: Path, settings: Any) -> Iterator[Scene]:
    """``settings``: pytest-django's, so that what is set here is taken back."""
    origin = folder / "served" / f"{NAME}.git"
    repository_build(folder / "work", {"parser.py": "def parse(text):\n    return text[0]\n"})
    git(folder / "work", "clone", "--quiet", "--bare", ".", str(origin))
    with (
        git_server_run(folder / "served", folder / "keys", tls=False) as server,
        ForgeServer(kind, token=TOKEN) as forge,
    ):
        settings.ARCHON_HOME = folder / "home"
        settings.ARCHON_PRIVATE_HOSTS = ["127.0.0.1"]
        server.tokens["team"] = TOKEN
        repository = forge.repository_add(NAME, origin)
        user = user_make()
        client = client_for(user)
        made = client.post(
            "/api/projects/", {"name": "app", "repository_url": server.url(f"{NAME}.git"), "token": TOKEN}
        ).json()
        fetch_execute(source_id=RepositorySource.objects.get(project_id=made["id"]).id)
        project = Project.objects.get(id=made["id"])
        assert project.repository_state == "ready", RepositorySource.objects.get().fetch_reason
        answer = client.put(f"/api/projects/{project.id}/forge/", {"kind": kind, "api_url": forge.api_url})
        assert answer.status_code == 200, answer.json()
        session = session_ended(user, project)
        yield Scene(server, forge, origin, repository, user, client, project, session)


def session_ended(user: User, project: Project, *, outcome: str = "verified", goal: str = GOAL) -> AgentSession:
    """A session of a project that has changed a file and completed."""
    session = session_build(user=user, project=project, goal=goal, base_commit=project.head_commit)
    git_dir = repository_path(project_id=project.id)
    commit = commit_make(git_dir, project.head_commit, {"parser.py": "def parse(text):\n    return text[:1]\n"})
    git(git_dir, "update-ref", f"refs/heads/{session.branch}", commit)
    AgentSession.objects.filter(id=session.id).update(
        status="completed", outcome=outcome, head_commit=commit, finished_at=timezone.now()
    )
    session.refresh_from_db()
    return session


def commit_make(git_dir: Path, parent: str, files: dict[str, str]) -> str:
    """A commit with these files beside those of its parent, made without a checkout."""
    git(git_dir, "read-tree", parent)
    for name, text in files.items():
        hashed = subprocess.run(
            ["git", *GIT_IDENTITY, "hash-object", "-w", "--stdin"],
            cwd=git_dir, input=text, capture_output=True, text=True, check=True,
        )  # fmt: skip
        git(git_dir, "update-index", "--add", "--cacheinfo", f"100644,{hashed.stdout.strip()},{name}")
    return git(git_dir, "commit-tree", git(git_dir, "write-tree"), "-p", parent, "-m", f"Change {', '.join(files)}")
