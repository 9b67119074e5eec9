"""What planning is told and tells."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from apps.planning.models import PlanStatus, TaskStatus


@dataclass(frozen=True)
class TaskDraft:
    title: str
    instructions: str


@dataclass(frozen=True)
class FeatureDraft:
    title: str
    description: str
    tasks: tuple[TaskDraft, ...]


@dataclass(frozen=True)
class TaskProgress:
    id: uuid.UUID
    title: str
    status: TaskStatus
    attempts: int
    commit: str
    instructions: str = ""
    result: str = ""


@dataclass(frozen=True)
class TaskState:
    """How far a task is; as it stands, one that was not begun."""

    status: TaskStatus = TaskStatus.PENDING
    attempts: int = 0
    result: str = ""
    commit: str = ""


@dataclass(frozen=True)
class FeatureProgress:
    id: uuid.UUID
    title: str
    tasks: tuple[TaskProgress, ...]


@dataclass(frozen=True)
class PlanProgress:
    """Where a plan stands; ``done`` and ``total`` count tasks."""

    id: uuid.UUID
    summary: str
    status: PlanStatus
    features: tuple[FeatureProgress, ...]
    done: int
    total: int
