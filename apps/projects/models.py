"""Projects, who works on them, and what their repository needs."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from apps.core.models import BaseModel


class RepositoryState(models.TextChoices):
    EMPTY = "empty"
    READY = "ready"


class Project(BaseModel):
    """A repository that agents work on. The bare repository itself lives under ``ARCHON_HOME`` by the project's id."""

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    repository_state = models.CharField(max_length=10, choices=RepositoryState.choices, default=RepositoryState.EMPTY)
    default_branch = models.CharField(max_length=255, blank=True)
    #: The commit of the default branch, copied from the repository at each import and merge.
    head_commit = models.CharField(max_length=64, blank=True)
    #: A shell command that installs the dependencies; empty: found from the lock files.
    setup_command = models.TextField(blank=True)
    #: Shell commands that tell whether the code works; empty: found from the repository.
    check_commands = models.JSONField(default=list, blank=True)
    #: Hosts that agents may read web pages from (`HOST`, `HOST:PORT`, `*.DOMAIN`); empty: none.
    network_hosts = models.JSONField(default=list, blank=True)
    #: The folder of a larger repository that the work is about, as `a/b`; empty: all of it.
    subfolder = models.CharField(max_length=1000, blank=True)
    members: models.ManyToManyField[models.Model, Membership] = models.ManyToManyField(
        settings.AUTH_USER_MODEL, through="Membership", related_name="projects"
    )

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(repository_state__in=RepositoryState.values), name="project_repository_state_known"
            ),
            # A repository that is ready has a branch to start from.
            models.CheckConstraint(
                condition=~models.Q(repository_state=RepositoryState.READY) | ~models.Q(default_branch=""),
                name="project_ready_has_branch",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner"
    MEMBER = "member"
    VIEWER = "viewer"


class Membership(BaseModel):
    """A user's part in a project; a project without the user in it does not exist for them."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="membership_unique"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]
