"""Reads of the app; every one that serves a person is scoped to the projects that they are in."""

from __future__ import annotations

import uuid

from django.db.models import Prefetch, QuerySet

from apps.authentication.models import User
from apps.core.errors import NotFound
from apps.planning.models import Feature, Plan, PlanStatus, Task, TaskStatus
from apps.planning.types import FeatureProgress, PlanProgress, TaskProgress
from apps.projects.selectors import project_get_for_user


def _features() -> QuerySet[Feature]:
    return Feature.objects.order_by("position", "created_at", "id").prefetch_related(
        Prefetch("tasks", queryset=Task.objects.order_by("position", "created_at", "id"))
    )


def plan_list(*, user: User, project_id: uuid.UUID | None = None) -> QuerySet[Plan]:
    """Plans with their features and tasks, newest first. Raises NotFound for a project that the user is not in."""
    plans = Plan.objects.filter(project__memberships__user=user)
    if project_id is not None:
        plans = plans.filter(project=project_get_for_user(user=user, project_id=project_id))
    return plans.order_by("-created_at", "id").prefetch_related(Prefetch("features", queryset=_features()))


def plan_get_for_user(*, user: User, plan_id: uuid.UUID) -> Plan:
    """A plan with its features and tasks. Raises NotFound."""
    plan = plan_list(user=user).filter(id=plan_id).first()
    if plan is None:
        raise NotFound("There is no such plan.")
    return plan


def feature_list(
    *, user: User, project_id: uuid.UUID | None = None, plan_id: uuid.UUID | None = None
) -> QuerySet[Feature]:
    """Features with their tasks, newest plan first. Raises NotFound for a project or plan that isn't the user's."""
    features = _features().filter(project__memberships__user=user)
    if project_id is not None:
        features = features.filter(project=project_get_for_user(user=user, project_id=project_id))
    if plan_id is not None:
        features = features.filter(plan=plan_get_for_user(user=user, plan_id=plan_id))
    return features.order_by("-plan__created_at", "position", "created_at", "id")


def feature_get_for_user(*, user: User, feature_id: uuid.UUID, write: bool = False) -> Feature:
    """A feature with its tasks. Raises NotFound, or PermissionDenied where ``write`` is asked of a viewer."""
    feature = feature_list(user=user).filter(id=feature_id).first()
    if feature is None:
        raise NotFound("There is no such feature.")
    if write:
        project_get_for_user(user=user, project_id=feature.project_id, write=True)
    return feature


def task_list(
    *,
    user: User,
    project_id: uuid.UUID | None = None,
    plan_id: uuid.UUID | None = None,
    feature_id: uuid.UUID | None = None,
    status: TaskStatus | None = None,
) -> QuerySet[Task]:
    """Tasks in the order of their plan. Raises NotFound for a project, plan or feature that isn't the user's."""
    tasks = Task.objects.filter(feature__project__memberships__user=user)
    if project_id is not None:
        tasks = tasks.filter(feature__project=project_get_for_user(user=user, project_id=project_id))
    if plan_id is not None:
        tasks = tasks.filter(feature__plan=plan_get_for_user(user=user, plan_id=plan_id))
    if feature_id is not None:
        tasks = tasks.filter(feature=feature_get_for_user(user=user, feature_id=feature_id))
    if status is not None:
        tasks = tasks.filter(status=status)
    return tasks.select_related("feature").order_by(
        "-feature__plan__created_at", "feature__position", "feature__created_at", "position", "created_at", "id"
    )


def task_get_for_user(*, user: User, task_id: uuid.UUID) -> Task:
    """Raises NotFound."""
    task = task_list(user=user).filter(id=task_id).first()
    if task is None:
        raise NotFound("There is no such task.")
    return task


def plan_progress(plan_id: uuid.UUID) -> PlanProgress:
    """Where the plan stands, in its order. Asks for no user: for callers that have checked. Raises NotFound."""
    plan = Plan.objects.prefetch_related(Prefetch("features", queryset=_features())).filter(id=plan_id).first()
    if plan is None:
        raise NotFound("There is no such plan.")
    features = tuple(
        FeatureProgress(
            id=feature.id,
            title=feature.title,
            tasks=tuple(
                TaskProgress(
                    id=task.id,
                    title=task.title,
                    status=TaskStatus(task.status),
                    attempts=task.attempts,
                    commit=task.commit,
                    instructions=task.instructions,
                    result=task.result,
                )
                for task in feature.tasks.all()
            ),
        )
        for feature in plan.features.all()
    )
    tasks = [task for feature in features for task in feature.tasks]
    return PlanProgress(
        id=plan.id,
        summary=plan.summary,
        status=PlanStatus(plan.status),
        features=features,
        done=sum(task.status == TaskStatus.DONE for task in tasks),
        total=len(tasks),
    )
