"""Writes of the app: plans that agents make and advance, features that people add."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from apps.authentication.models import User
from apps.core.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from apps.planning.models import Feature, Plan, PlanStatus, Task, TaskStatus
from apps.planning.types import FeatureDraft, TaskState
from apps.projects.models import Project, Role
from apps.projects.selectors import project_get_for_user, project_role

_TITLE_LENGTH = 300

#: Which status may follow which; the same one again is always fine, since a replay may say it twice.
_TASK_TRANSITIONS: dict[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset({TaskStatus.RUNNING, TaskStatus.FAILED}),
    TaskStatus.RUNNING: frozenset({TaskStatus.PENDING, TaskStatus.DONE, TaskStatus.FAILED}),
    TaskStatus.FAILED: frozenset({TaskStatus.PENDING, TaskStatus.RUNNING}),
    # Work that is committed is taken back by a rewind, which makes the task pending, and by nothing else.
    TaskStatus.DONE: frozenset({TaskStatus.PENDING}),
}


def plan_create(
    *, plan_id: uuid.UUID, project: Project, goal: str, summary: str, features: Sequence[FeatureDraft]
) -> Plan:
    """The plan with this id, made with its features and tasks unless it is there already.

    Ids of features and tasks follow from ``plan_id`` and their position, so a replay makes nothing twice; the first
    call's content stays. Titles are cut at 300 characters. Raises InvalidInput for a plan without a task.
    """
    if not any(feature.tasks for feature in features):
        raise InvalidInput("A plan needs at least one task.")
    with transaction.atomic():
        plan, created = Plan.objects.get_or_create(
            id=plan_id, defaults={"project": project, "goal": goal, "summary": summary}
        )
        if plan.project_id != project.id:
            raise Conflict("There is a plan with this id in another project.")
        if created:
            _plan_fill(plan, features)
    return plan


def _plan_fill(plan: Plan, features: Sequence[FeatureDraft]) -> None:
    feature_rows, task_rows = [], []
    for position, draft in enumerate(features):
        feature = Feature(
            id=feature_id_derive(plan_id=plan.id, position=position),
            project_id=plan.project_id,
            plan=plan,
            title=draft.title[:_TITLE_LENGTH],
            description=draft.description,
            position=position,
        )
        feature_rows.append(feature)
        task_rows += [
            Task(
                id=task_id_derive(plan_id=plan.id, feature_position=position, position=task_position),
                feature=feature,
                title=task.title[:_TITLE_LENGTH],
                instructions=task.instructions,
                position=task_position,
            )
            for task_position, task in enumerate(draft.tasks)
        ]
    Feature.objects.bulk_create(feature_rows)
    Task.objects.bulk_create(task_rows)


def plan_extend(
    *, plan_id: uuid.UUID, project: Project, goal: str, feature_id: uuid.UUID, feature: FeatureDraft
) -> Plan:
    """Add a feature with its tasks at the plan's end, once; the plan is active again. One that isn't there is made."""
    with transaction.atomic():
        Plan.objects.get_or_create(id=plan_id, defaults={"project": project, "goal": goal, "summary": feature.title})
        plan = Plan.objects.select_for_update().get(id=plan_id)
        if plan.project_id != project.id:
            raise Conflict("There is a plan with this id in another project.")
        if not Feature.objects.filter(id=feature_id).exists():
            last = plan.features.aggregate(last=Max("position"))["last"]
            row = Feature.objects.create(
                id=feature_id,
                project=project,
                plan=plan,
                title=feature.title[:_TITLE_LENGTH],
                description=feature.description,
                position=0 if last is None else last + 1,
            )
            Task.objects.bulk_create(
                Task(
                    id=uuid.uuid5(feature_id, f"task:{position}"),
                    feature=row,
                    title=task.title[:_TITLE_LENGTH],
                    instructions=task.instructions,
                    position=position,
                )
                for position, task in enumerate(feature.tasks)
            )
            plan.status = PlanStatus.ACTIVE
            plan.save(update_fields=["status", "updated_at"])
    return plan


def feature_id_derive(*, plan_id: uuid.UUID, position: int) -> uuid.UUID:
    return uuid.uuid5(plan_id, f"feature:{position}")


def task_id_derive(*, plan_id: uuid.UUID, feature_position: int, position: int) -> uuid.UUID:
    return uuid.uuid5(plan_id, f"task:{feature_position}:{position}")


def follow_up_feature_id_derive(*, plan_id: uuid.UUID, turn: int) -> uuid.UUID:
    """The feature that stands for a session's follow-up."""
    return uuid.uuid5(plan_id, f"follow-up:{turn}")


def plan_update_status(*, plan_id: uuid.UUID, status: PlanStatus) -> None:
    """Raises NotFound."""
    if not Plan.objects.filter(id=plan_id).update(status=status):
        raise NotFound("There is no such plan.")


def task_update_status(
    *,
    task_id: uuid.UUID,
    status: TaskStatus,
    attempts: int | None = None,
    result: str | None = None,
    commit: str | None = None,
) -> Task:
    """Move the task on; ``attempts`` is how many were begun, this one included. What is not given stays.

    The same status again is fine. Raises Conflict for a status that can't follow the present one, NotFound.
    """
    with transaction.atomic():
        task = Task.objects.select_for_update().filter(id=task_id).first()
        if task is None:
            raise NotFound("There is no such task.")
        if status != task.status and status not in _TASK_TRANSITIONS[TaskStatus(task.status)]:
            raise Conflict(f"A task that is {task.status} can't become {status}.", state=task.status)
        task.status = status
        if attempts is not None:
            task.attempts = attempts
        if result is not None:
            task.result = result
        if commit is not None:
            task.commit = commit
        task.save()
    return task


def feature_create(
    *, user: User, project_id: uuid.UUID, plan_id: uuid.UUID | None, title: str, description: str
) -> Feature:
    """A person's feature, last in its plan when it names one. Raises NotFound, PermissionDenied or InvalidInput."""
    project = project_get_for_user(user=user, project_id=project_id, write=True)
    with transaction.atomic():
        plan, position = None, 0
        if plan_id is not None:
            # Locked, so that two features at once don't get the same place.
            plan = Plan.objects.select_for_update().filter(id=plan_id, project=project).first()
            if plan is None:
                raise InvalidInput("There is no such plan in this project.")
            last = plan.features.aggregate(last=Max("position"))["last"]
            position = 0 if last is None else last + 1
        return Feature.objects.create(
            project=project, plan=plan, title=title, description=description, position=position, created_by=user
        )


def feature_update(
    *, user: User, feature: Feature, title: str | None = None, description: str | None = None
) -> Feature:
    """Change what is given. Raises PermissionDenied as :func:`feature_delete`."""
    _feature_own_require(user, feature)
    if title is not None:
        feature.title = title
    if description is not None:
        feature.description = description
    feature.save(update_fields=["title", "description", "updated_at"])
    return feature


def feature_delete(*, user: User, feature: Feature) -> None:
    """Raises PermissionDenied unless the user added it, or owns the project and some person added it."""
    _feature_own_require(user, feature)
    feature.delete()


def _feature_own_require(user: User, feature: Feature) -> None:
    project = project_get_for_user(user=user, project_id=feature.project_id, write=True)
    if feature.created_by_id is None:
        raise PermissionDenied("An agent planned this feature; only people's own can be changed.")
    if feature.created_by_id != user.id and project_role(project) != Role.OWNER:
        raise PermissionDenied("Somebody else added this feature.", next_step="ask them, or an owner of the project")


def plan_rewind(*, plan_id: uuid.UUID, features: Collection[uuid.UUID], tasks: Mapping[uuid.UUID, TaskState]) -> None:
    """Have the plan as it was: active, these tasks as told and the others not begun; these features never added.

    For a session that is taken back to an earlier step. One that is gone is fine.
    """
    with transaction.atomic():
        Plan.objects.filter(id=plan_id).update(status=PlanStatus.ACTIVE, updated_at=timezone.now())
        Feature.objects.filter(id__in=features, plan_id=plan_id, created_by=None).delete()
        for task in Task.objects.select_for_update().filter(feature__plan_id=plan_id):
            state = tasks.get(task.id, TaskState())
            task.status, task.attempts, task.result, task.commit = (
                state.status,
                state.attempts,
                state.result,
                state.commit,
            )
            task.save(update_fields=["status", "attempts", "result", "commit", "updated_at"])


def plan_withdraw(*, plan_id: uuid.UUID) -> None:
    """Keep the plan as one that its session was taken back from; the session makes another one."""
    Plan.objects.filter(id=plan_id).update(status=PlanStatus.WITHDRAWN, updated_at=timezone.now())
