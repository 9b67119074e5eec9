"""Plans: what is to be done, in rows that a person can read and change."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from apps.core.models import BaseModel
from apps.projects.models import Project


class PlanStatus(models.TextChoices):
    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"
    #: Its session was taken back to before it was made.
    WITHDRAWN = "withdrawn"


class Plan(BaseModel):
    """What one session set out to do."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="plans")
    goal = models.TextField()
    summary = models.TextField(blank=True)
    version = models.PositiveIntegerField(default=1)
    status = models.CharField(max_length=10, choices=PlanStatus.choices, default=PlanStatus.ACTIVE)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=models.Q(status__in=PlanStatus.values), name="plan_status_known")
        ]


class Feature(BaseModel):
    """A part of a project that is worth naming; it belongs to a plan, or was added by a person and has none yet."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="features")
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="features", null=True, blank=True)
    title = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    position = models.PositiveIntegerField(default=0)
    #: The person who added it; none for a feature that an agent planned.
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="features"
    )

    class Meta:
        ordering = ["position", "created_at"]


class TaskStatus(models.TextChoices):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Task(BaseModel):
    """One piece of work for one agent, checked and committed by itself."""

    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="tasks")
    title = models.CharField(max_length=300)
    instructions = models.TextField(blank=True)
    position = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10, choices=TaskStatus.choices, default=TaskStatus.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    result = models.TextField(blank=True)
    commit = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["feature__position", "position", "created_at"]
        constraints = [
            models.CheckConstraint(condition=models.Q(status__in=TaskStatus.values), name="task_status_known")
        ]
