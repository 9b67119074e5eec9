"""What planning is told and tells: its words, and how far things are."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import models


class Intent(models.TextChoices):
    """What a goal asks for, which decides what it takes to serve it."""

    #: An answer with citations; nothing is changed.
    QUESTION = "question"
    #: One change in a place that is known: no review unless it is asked for.
    SMALL_EDIT = "small_edit"
    BUG = "bug"
    FEATURE = "feature"


class PlanStatus(models.TextChoices):
    ACTIVE = "active"
    #: A person has to approve it before anything of it is carried out.
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    #: A person does not want it.
    REJECTED = "rejected"
    #: Its session was taken back to before it was made.
    WITHDRAWN = "withdrawn"


class TaskStatus(models.TextChoices):
    """Where a task is. Pending, blocked and skipped of one that never started follow from the plan."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    #: It can't start: what it needs failed or is blocked, or a person holds it.
    BLOCKED = "blocked"
    #: A person or a later version of the plan does without it.
    SKIPPED = "skipped"


class TaskType(models.TextChoices):
    CODE = "code"
    TEST = "test"
    REFACTOR = "refactor"
    DOCS = "docs"
    CONFIG = "config"
    RESEARCH = "research"
    REVIEW = "review"


class TaskAgent(models.TextChoices):
    """Who carries a task out."""

    CODER = "coder"
    RESEARCHER = "researcher"
    REVIEWER = "reviewer"


class Priority(models.TextChoices):
    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Effort(models.TextChoices):
    TRIVIAL = "trivial"
    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class VersionSource(models.TextChoices):
    """Who made a version of a plan."""

    PLANNER = "planner"
    REPLAN = "replan"
    PERSON = "person"
    IMPORT = "import"
    FOLLOW_UP = "follow_up"
    #: The session was taken back to a step at which the plan was otherwise.
    REWIND = "rewind"


@dataclass(frozen=True)
class TaskProgress:
    id: uuid.UUID
    title: str
    status: TaskStatus
    attempts: int
    commit: str
    instructions: str = ""
    result: str = ""
    key: str = ""
    type: TaskType = TaskType.CODE
    agent_type: TaskAgent = TaskAgent.CODER
    #: Keys of all tasks that have to be done before it, those that its features depend on included.
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    creates: tuple[str, ...] = ()
    #: Commands that tell whether it is done, and the same with what each shows: ``{command, name}``.
    checks: tuple[str, ...] = ()
    acceptance: tuple[Mapping[str, Any], ...] = ()
    blocked_reason: str = ""
    check_results: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class TaskState:
    """How far a task is; as it stands, one that was not begun."""

    status: TaskStatus = TaskStatus.PENDING
    attempts: int = 0
    result: str = ""
    commit: str = ""
    #: What its own checks and its reviewer said last; None: that is left as it is.
    check_results: tuple[Mapping[str, Any], ...] | None = None
    findings: tuple[Mapping[str, Any], ...] | None = None

    @property
    def started(self) -> bool:
        return self.attempts > 0 or self.status in (TaskStatus.RUNNING, TaskStatus.DONE, TaskStatus.FAILED)


@dataclass(frozen=True)
class MadeIn:
    """Where a version of a plan was made: the session that carries it out, and its last event then."""

    session_id: uuid.UUID
    seq: int


@dataclass(frozen=True)
class FeatureProgress:
    """A feature with its own tasks; those of nested features follow it in the plan's order, one level deeper."""

    id: uuid.UUID
    title: str
    tasks: tuple[TaskProgress, ...]
    key: str = ""
    depth: int = 0
    status: TaskStatus = TaskStatus.PENDING
    blocked_reason: str = ""


@dataclass(frozen=True)
class PlanProgress:
    """Where a plan stands; ``done`` and ``total`` count tasks, those that are skipped left out."""

    id: uuid.UUID
    summary: str
    status: PlanStatus
    features: tuple[FeatureProgress, ...]
    done: int
    total: int
    version: int = 1
    approved_version: int | None = None
    intent: Intent = Intent.FEATURE
    estimate: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[TaskProgress, ...]:
        """Every task, in the plan's order."""
        return tuple(task for feature in self.features for task in feature.tasks)


@dataclass(frozen=True)
class PlanVersionInfo:
    """A version of a plan and how it came about."""

    number: int
    reason: str
    source: VersionSource
    changes: tuple[Mapping[str, Any], ...]
    author: uuid.UUID | None
    created_at: datetime.datetime
