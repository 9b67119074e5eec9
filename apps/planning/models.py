"""Plans: what is to be done, in rows that a person can read and change."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from apps.core.models import BaseModel
from apps.planning.types import (
    Effort,
    Intent,
    PlanStatus,
    Priority,
    TaskAgent,
    TaskStatus,
    TaskType,
    VersionSource,
)
from apps.projects.models import Project

__all__ = ["Feature", "Plan", "PlanStatus", "PlanVersion", "Task", "TaskStatus"]


class Plan(BaseModel):
    """What is to be done to reach one goal. Its rows of features and tasks are its newest version."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="plans")
    goal = models.TextField()
    summary = models.TextField(blank=True)
    intent = models.CharField(
        max_length=12, choices=Intent.choices, default=Intent.FEATURE, db_default=Intent.FEATURE.value
    )
    #: The newest version; each is kept, with how it came about.
    version = models.PositiveIntegerField(default=1)
    #: The version that a person approved last; None: none, which matters only where one has to.
    approved_version = models.PositiveIntegerField(null=True, blank=True)
    status = models.CharField(max_length=10, choices=PlanStatus.choices, default=PlanStatus.ACTIVE)
    #: What it is likely to take: ``{steps, tokens, cost_usd, basis}``; empty: nobody has guessed.
    estimate = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=models.Q(status__in=PlanStatus.values), name="plan_status_known"),
            models.CheckConstraint(condition=models.Q(intent__in=Intent.values), name="plan_intent_known"),
        ]


class PlanVersion(models.Model):
    """A version of a plan, whole, with what it changed and why; never changed itself."""

    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    #: ``apps.planning.document.PlanDoc``.
    document = models.JSONField()
    #: What is different from the version before, in order: ``apps.planning.diffing.Change`` each.
    changes = models.JSONField(default=list)
    reason = models.TextField(blank=True)
    source = models.CharField(max_length=10, choices=VersionSource.choices)
    #: The person who made it; none where an agent did.
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    #: The session that carried the plan out when it was made, and its last event then; none outside of one.
    session_id = models.UUIDField(null=True, blank=True)
    seq = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["plan", "number"]
        constraints = [
            models.UniqueConstraint(fields=["plan", "number"], name="planversion_once"),
            models.CheckConstraint(
                condition=models.Q(source__in=VersionSource.values), name="planversion_source_known"
            ),
        ]


class Feature(BaseModel):
    """A part of a project that is worth naming; it belongs to a plan, or was added by a person and has none yet."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="features")
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="features", null=True, blank=True)
    #: By what the plan's document names it; empty without a plan.
    key = models.CharField(max_length=64, blank=True, default="", db_default="")
    parent = models.ForeignKey("self", on_delete=models.CASCADE, related_name="children", null=True, blank=True)
    title = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    priority = models.CharField(
        max_length=10, choices=Priority.choices, default=Priority.NORMAL, db_default=Priority.NORMAL.value
    )
    effort = models.CharField(
        max_length=10, choices=Effort.choices, default=Effort.MEDIUM, db_default=Effort.MEDIUM.value
    )
    #: Keys of features that come first.
    depends_on = models.JSONField(default=list, blank=True)
    #: Why nothing of it must start; empty: nothing holds it.
    blocked_reason = models.TextField(blank=True, default="", db_default="")
    #: Its place among the plan's features, each before those within it.
    position = models.PositiveIntegerField(default=0)
    #: The person who added it; none for a feature that an agent planned.
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="features"
    )

    class Meta:
        ordering = ["position", "created_at"]
        constraints = [
            models.UniqueConstraint(fields=["plan", "key"], condition=~models.Q(key=""), name="feature_key_unique"),
            models.CheckConstraint(condition=models.Q(priority__in=Priority.values), name="feature_priority_known"),
            models.CheckConstraint(condition=models.Q(effort__in=Effort.values), name="feature_effort_known"),
        ]


class Task(BaseModel):
    """One piece of work for one agent, checked and committed by itself."""

    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="tasks")
    key = models.CharField(max_length=64, blank=True, default="", db_default="")
    title = models.CharField(max_length=300)
    instructions = models.TextField(blank=True)
    type = models.CharField(
        max_length=10, choices=TaskType.choices, default=TaskType.CODE, db_default=TaskType.CODE.value
    )
    agent_type = models.CharField(
        max_length=10, choices=TaskAgent.choices, default=TaskAgent.CODER, db_default=TaskAgent.CODER.value
    )
    #: Keys of tasks that come first, as the plan has them; those of its features come to these.
    depends_on = models.JSONField(default=list, blank=True)
    #: Paths that it is expected to touch, and those that it makes.
    files = models.JSONField(default=list, blank=True)
    creates = models.JSONField(default=list, blank=True)
    #: Commands that tell whether it is done: ``{command, name}`` each.
    checks = models.JSONField(default=list, blank=True)
    position = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10, choices=TaskStatus.choices, default=TaskStatus.PENDING)
    #: Why it is blocked.
    blocked_reason = models.TextField(blank=True, default="", db_default="")
    attempts = models.PositiveIntegerField(default=0)
    result = models.TextField(blank=True)
    commit = models.CharField(max_length=64, blank=True)
    #: What its checks said on its last commit: ``{name, command, passed, exit_code, output}`` each.
    check_results = models.JSONField(default=list, blank=True)
    #: What the reviewer found in its last commit: ``{path, line, severity, comment, resolved}`` each.
    findings = models.JSONField(default=list, blank=True)
    #: The session that works on it or has done so; of the app above, hence by id alone.
    session_id = models.UUIDField(null=True, blank=True)

    class Meta:
        ordering = ["feature__position", "position", "created_at"]
        constraints = [
            models.UniqueConstraint(fields=["feature", "key"], condition=~models.Q(key=""), name="task_key_unique"),
            models.CheckConstraint(condition=models.Q(status__in=TaskStatus.values), name="task_status_known"),
            models.CheckConstraint(condition=models.Q(type__in=TaskType.values), name="task_type_known"),
            models.CheckConstraint(condition=models.Q(agent_type__in=TaskAgent.values), name="task_agent_type_known"),
        ]
