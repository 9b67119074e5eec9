"""Reads of the app; every one that serves a person is scoped to the projects that they are in."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable

from django.db.models import Max, Prefetch, Q, QuerySet

from apps.authentication.models import User
from apps.core.errors import NotFound
from apps.planning.document import PlanDoc
from apps.planning.models import Feature, Plan, PlanVersion, Task
from apps.planning.scheduling import status_roll_up
from apps.planning.types import (
    FeatureProgress,
    Intent,
    PlanProgress,
    PlanStatus,
    TaskAgent,
    TaskProgress,
    TaskState,
    TaskStatus,
    TaskType,
)
from apps.projects.selectors import project_get_for_user


def _features() -> QuerySet[Feature]:
    return Feature.objects.order_by("position", "created_at", "id").prefetch_related(
        Prefetch("tasks", queryset=Task.objects.order_by("position", "created_at", "id"))
    )


def plan_list(
    *, user: User, project_id: uuid.UUID | None = None, status: PlanStatus | None = None, words: str = ""
) -> QuerySet[Plan]:
    """Plans with their features and tasks, newest first; ``words`` are looked for in goals and summaries.

    Raises NotFound for a project that the user is not in.
    """
    plans = Plan.objects.filter(project__memberships__user=user)
    if project_id is not None:
        plans = plans.filter(project=project_get_for_user(user=user, project_id=project_id))
    if status is not None:
        plans = plans.filter(status=status)
    for word in words.split():
        plans = plans.filter(Q(goal__icontains=word) | Q(summary__icontains=word))
    return plans.order_by("-created_at", "id").prefetch_related(Prefetch("features", queryset=_features()))


def plan_get_for_user(*, user: User, plan_id: uuid.UUID, write: bool = False) -> Plan:
    """A plan with its features and tasks. Raises NotFound, or PermissionDenied where ``write`` is asked of a viewer."""
    plan = plan_list(user=user).filter(id=plan_id).first()
    if plan is None:
        raise NotFound("There is no such plan.")
    if write:
        project_get_for_user(user=user, project_id=plan.project_id, write=True)
    return plan


def version_list(*, user: User, plan_id: uuid.UUID) -> QuerySet[PlanVersion]:
    """The plan's versions, newest first. Raises NotFound."""
    plan = plan_get_for_user(user=user, plan_id=plan_id)
    return PlanVersion.objects.filter(plan=plan).select_related("author").order_by("-number")


def keys_past(plan: Plan) -> set[str]:
    """Keys of features and tasks that versions of the plan have removed."""
    changes = PlanVersion.objects.filter(plan=plan).values_list("changes", flat=True)
    return {change["key"] for each in changes for change in each if change["kind"] == "removed"}


def version_get(plan: Plan, number: int) -> PlanVersion:
    """Raises NotFound."""
    version = PlanVersion.objects.filter(plan=plan, number=number).select_related("author").first()
    if version is None:
        raise NotFound(f"The plan has no version {number}.", next_step=f"its versions are 1 to {plan.version}")
    return version


def feature_list(
    *, user: User, project_id: uuid.UUID | None = None, plan_id: uuid.UUID | None = None
) -> QuerySet[Feature]:
    """Features with their tasks, newest plan first. Raises NotFound for a project or plan that isn't the user's."""
    # A feature's status is that of the features within it, too.
    around = Prefetch("plan__features", queryset=_features())
    features = _features().filter(project__memberships__user=user).prefetch_related(around)
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


def task_get_for_user(*, user: User, task_id: uuid.UUID, write: bool = False) -> Task:
    """Raises NotFound, or PermissionDenied where ``write`` is asked of a viewer."""
    task = task_list(user=user).filter(id=task_id).first()
    if task is None:
        raise NotFound("There is no such task.")
    if write:
        project_get_for_user(user=user, project_id=task.feature.project_id, write=True)
    return task


def feature_statuses(features: Iterable[Feature]) -> dict[uuid.UUID, TaskStatus]:
    """What each of a plan's features is at, by its tasks and those of the features in it; all are to be given."""
    rows = list(features)
    found: dict[uuid.UUID, list[TaskStatus]] = {row.id: [] for row in rows}
    parents = {row.id: row.parent_id for row in rows}
    for row in rows:
        for task in row.tasks.all():
            above: uuid.UUID | None = row.id
            while above in found:
                found[above].append(TaskStatus(task.status))
                above = parents[above]
    return {key: status_roll_up(statuses) for key, statuses in found.items()}


def plan_document(plan: Plan) -> PlanDoc:
    """What the plan's newest version says."""
    return PlanDoc.read(PlanVersion.objects.values_list("document", flat=True).get(plan=plan, number=plan.version))


def task_states(plan: Plan) -> dict[str, TaskState]:
    """How far each of the plan's tasks is, by key; of one that the plan does without, how far it had come."""
    rows = Task.objects.filter(feature__plan=plan).values_list("key", "status", "attempts", "result", "commit")
    return {
        key: TaskState(_status_own(TaskStatus(status), attempts), attempts, result, commit)
        for key, status, attempts, result, commit in rows
    }


def task_statuses(plan: Plan) -> dict[str, TaskStatus]:
    """Where each of the plan's tasks is, by key."""
    rows = Task.objects.filter(feature__plan=plan).values_list("key", "status")
    return {key: TaskStatus(status) for key, status in rows}


def _status_own(status: TaskStatus, attempts: int) -> TaskStatus:
    """A task that was begun and is skipped had failed: nothing else that was begun can be done without."""
    return TaskStatus.FAILED if status is TaskStatus.SKIPPED and attempts else status


def version_at(plan_id: uuid.UUID, *, session_id: uuid.UUID, seq: int, before: datetime.datetime) -> int | None:
    """The version that a session had at one of its events; ``before`` it was made, whoever made it. None: none yet."""
    made = PlanVersion.objects.filter(plan=plan_id)
    own = Q(session_id=session_id, seq__lte=seq)
    others = Q(created_at__lte=before) & (Q(session_id=None) | ~Q(session_id=session_id))
    last: int | None = made.filter(own | others).aggregate(last=Max("number"))["last"]
    return last


def plan_progress(plan_id: uuid.UUID) -> PlanProgress:
    """Where the plan stands, in its order. Asks for no user: for callers that have checked. Raises NotFound."""
    plan = Plan.objects.prefetch_related(Prefetch("features", queryset=_features())).filter(id=plan_id).first()
    if plan is None:
        raise NotFound("There is no such plan.")
    needs = plan_document(plan).needs
    rows = list(plan.features.all())
    depths: dict[uuid.UUID, int] = {}
    statuses = feature_statuses(rows)
    for row in rows:
        depths[row.id] = depths[row.parent_id] + 1 if row.parent_id in depths else 0
    features = tuple(
        FeatureProgress(
            id=row.id,
            title=row.title,
            tasks=tuple(_task_progress(task, needs.get(task.key, ())) for task in row.tasks.all()),
            key=row.key,
            depth=depths[row.id],
            status=statuses[row.id],
            blocked_reason=row.blocked_reason,
        )
        for row in rows
    )
    counted = [task for feature in features for task in feature.tasks if task.status is not TaskStatus.SKIPPED]
    return PlanProgress(
        id=plan.id,
        summary=plan.summary,
        status=PlanStatus(plan.status),
        features=features,
        done=sum(task.status is TaskStatus.DONE for task in counted),
        total=len(counted),
        version=plan.version,
        approved_version=plan.approved_version,
        intent=Intent(plan.intent),
        estimate=plan.estimate,
    )


def _task_progress(task: Task, needs: tuple[str, ...]) -> TaskProgress:
    return TaskProgress(
        id=task.id,
        title=task.title,
        status=TaskStatus(task.status),
        attempts=task.attempts,
        commit=task.commit,
        instructions=task.instructions,
        result=task.result,
        key=task.key,
        type=TaskType(task.type),
        agent_type=TaskAgent(task.agent_type),
        needs=needs,
        files=tuple(task.files),
        creates=tuple(task.creates),
        checks=tuple(check["command"] for check in task.checks),
        acceptance=tuple(task.checks),
        blocked_reason=task.blocked_reason,
        check_results=tuple(task.check_results),
        findings=tuple(task.findings),
    )
