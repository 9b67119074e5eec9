"""Projects, who works on them, and what their repository needs."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from apps.core.models import BaseModel
from apps.projects.autonomy import Autonomy


class RepositoryState(models.TextChoices):
    EMPTY = "empty"
    #: On its way from its source for the first time.
    CLONING = "cloning"
    READY = "ready"
    #: It did not come; the source says why.
    FAILED = "failed"


class FetchState(models.TextChoices):
    """What a source is at; what it has brought is the project's ``repository_state``."""

    IDLE = "idle"
    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"


class ForgeKind(models.TextChoices):
    """Whose API opens a pull (or merge) request."""

    GITHUB = "github"
    GITLAB = "gitlab"
    #: And Forgejo, which speaks the same.
    GITEA = "gitea"


#: The most tasks of a session that may be worked on side by side.
MAX_LANES = 8


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
    #: Hosts that agents, and the commands that they run, may reach (`HOST`, `HOST:PORT`, `*.DOMAIN`); empty: none.
    network_hosts = models.JSONField(default=list, blank=True)
    #: The folder of a larger repository that the work is about, as `a/b`; empty: all of it.
    subfolder = models.CharField(max_length=1000, blank=True)
    #: What agents may do without asking, unless a session says otherwise; empty: what the server says.
    autonomy = models.CharField(max_length=10, choices=Autonomy.choices, blank=True, default="", db_default="")
    #: What the project's owner says to every agent, beside the repository's own AGENTS.md.
    instructions = models.TextField(blank=True, default="", db_default="")
    #: What is different about its agents, by role: ``apps.agents.services.agent_profiles``.
    agents = models.JSONField(default=dict, blank=True)
    #: How many tasks of a session may be worked on side by side; None: what the server says.
    lanes = models.PositiveSmallIntegerField(null=True, blank=True)
    #: Which changes are reviewed (``auto``, ``always``, ``never``); empty: what the server says.
    review = models.CharField(max_length=10, blank=True, default="", db_default="")
    #: Where pull requests are opened; empty: told from the source's address.
    forge_kind = models.CharField(max_length=10, choices=ForgeKind.choices, blank=True, default="", db_default="")
    forge_api_url = models.CharField(max_length=2000, blank=True, default="", db_default="")
    #: Encrypted; empty: the source's own, where that is of the same host. It goes to ``forge_token_origin`` alone.
    forge_token = models.TextField(blank=True, default="", db_default="")
    forge_token_origin = models.CharField(max_length=300, blank=True, default="", db_default="")
    #: What users and agents have to know of the repository: `{kind, path, message}` each.
    repository_notices = models.JSONField(default=list, blank=True)
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


class RepositorySource(BaseModel):
    """Where a project's repository comes from, what opens it there, and how the fetch of it stands."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="source")
    #: Without credentials.
    url = models.CharField(max_length=2000)
    #: The branch to work on; empty: the one that the source's HEAD names.
    branch = models.CharField(max_length=255, blank=True)
    username = models.CharField(max_length=255, blank=True)
    #: Encrypted (apps.core.encryption); empty: none.
    token = models.TextField(blank=True)
    deploy_key = models.TextField(blank=True)
    #: Keys of an ssh host, given by a user or the first ones seen.
    known_hosts = models.TextField(blank=True)
    #: A session's start brings a repository up to date that is older than this; 0: never.
    sync_minutes = models.PositiveIntegerField(default=0)

    fetch_state = models.CharField(max_length=10, choices=FetchState.choices, default=FetchState.IDLE)
    #: The fetch that is wanted or running may give up what is here.
    fetch_force = models.BooleanField(default=False)
    #: `{phase, percent, received}` while it runs.
    fetch_progress = models.JSONField(null=True, blank=True)
    #: `{code, message, next_step}` of a fetch that failed.
    fetch_reason = models.JSONField(null=True, blank=True)
    #: Workers that have taken the fetch up and were not heard of again.
    fetch_attempts = models.PositiveIntegerField(default=0)
    #: Counts those who took it up: only the last one's word counts.
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempted_at = models.DateTimeField(null=True, blank=True)
    synced_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(fetch_state__in=FetchState.values), name="repository_source_fetch_state_known"
            ),
            models.CheckConstraint(
                condition=~models.Q(fetch_state=FetchState.RUNNING) | models.Q(lease_until__isnull=False),
                name="repository_source_running_has_lease",
            ),
        ]
        indexes = [models.Index(fields=["fetch_state"], name="repository_source_fetch_state")]


class ProjectSecret(BaseModel):
    """A variable that a project's commands may get, whose value nobody is shown."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=100)
    #: Encrypted.
    value = models.TextField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="projectsecret_name_unique")]


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
