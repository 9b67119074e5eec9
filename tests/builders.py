"""Rows and repositories that tests start from, made through the services that make them for users."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from apps.agents.models import AgentSession
from apps.agents.services.sessions import session_create
from apps.agents.types import AgentType
from apps.authentication.models import User
from apps.projects.models import Membership, Project, RepositoryState, Role
from apps.usage.services import budget_create
from apps.usage.types import Limits

GIT_IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgSign=false")


def user_build(email: str = "") -> User:
    return User.objects.create_user(email or f"{uuid.uuid4().hex}@example.com", "a-good-password-7")


def project_build(*, user: User, role: Role = Role.OWNER) -> Project:
    """A project that says it has a repository, without one on disk."""
    project = Project.objects.create(
        name="sample", repository_state=RepositoryState.READY, default_branch="main", head_commit="0" * 40
    )
    Membership.objects.create(project=project, user=user, role=role)
    return project


def session_build(
    *,
    user: User,
    project: Project,
    goal: str = "make it work",
    agent_type: AgentType = AgentType.EXECUTOR,
    model: str = "scripted:missing",
    base_commit: str = "0" * 40,
    limits: Limits | None = None,
    session_id: uuid.UUID | None = None,
) -> AgentSession:
    """A pending session with its budget."""
    session = session_create(
        session_id=session_id or uuid.uuid4(),
        project=project,
        user_id=user.id,
        goal=goal,
        agent_type=agent_type,
        model=model,
        base_url="",
        base_branch="main",
        base_commit=base_commit,
        check_commands=[],
        setup_command="",
        limit_seconds=3600,
    )
    budget_create(
        scope_id=session.id,
        project=project,
        user=user,
        limits=limits or Limits(cost_usd=Decimal(5), tokens=10**9, steps=1000),
    )
    return session


def repository_build(folder: Path, files: Mapping[str, str]) -> Path:
    """A git repository with these files in one commit on ``main``."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    """Run git in a repository of the test's own."""
    return subprocess.run(
        ["git", *GIT_IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()
