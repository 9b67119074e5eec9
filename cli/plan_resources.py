"""What the API answers of plans, as far as the command line reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cli.resources import Resource


class PlanTask(Resource):
    id: str
    key: str = ""
    title: str
    status: str = "pending"
    type: str = "code"
    agent_type: str = "coder"
    blocked_reason: str = ""
    attempts: int = 0
    commit: str = ""
    needs: list[str] = []
    files: list[str] = []
    creates: list[str] = []
    checks: list[str] = []


class PlanFeature(Resource):
    id: str
    key: str = ""
    title: str
    depth: int = 0
    status: str = "pending"
    blocked_reason: str = ""
    tasks: list[PlanTask] = []


class CarriedOut(Resource):
    """A session that carries a plan out, or did so."""

    id: str
    status: str


class PlanProgress(Resource):
    """Where a plan stands, in its order: each feature before those within it."""

    id: str
    summary: str
    status: str
    intent: str = ""
    version: int = 1
    approved_version: int | None = None
    estimate: dict[str, Any] = {}
    done: int = 0
    total: int = 0
    features: list[PlanFeature] = []
    sessions: list[CarriedOut] = []

    @property
    def tasks(self) -> list[PlanTask]:
        return [task for feature in self.features for task in feature.tasks]


class PlanRow(Resource):
    """A plan in a list."""

    id: str
    project: str
    goal: str
    summary: str = ""
    status: str
    version: int = 1
    created_at: datetime
    features: list[dict[str, Any]] = []

    @property
    def statuses(self) -> list[str]:
        return [str(task.get("status")) for feature in self.features for task in feature.get("tasks", [])]


class PlanVersion(Resource):
    number: int
    reason: str = ""
    source: str
    author_email: str = ""
    changes: list[dict[str, Any]] = []
    created_at: datetime


class PlanDiff(Resource):
    """The changes between two versions, and the same in words. ``from`` is a word of Python's."""

    changes: list[dict[str, Any]] = []
    text: str = ""
