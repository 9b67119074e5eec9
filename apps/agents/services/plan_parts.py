"""Single features and tasks, as people add, change and remove them by their ids: operations on the plan they are in."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.agents.services.plan_edits import plan_change, plan_edit
from apps.core.errors import Conflict, InvalidInput, NotFound
from apps.planning import services
from apps.planning.document import PlanDoc
from apps.planning.editing import operations_apply, operations_read
from apps.planning.models import Feature, Plan, Task
from apps.planning.selectors import feature_get_for_user, keys_past, plan_get_for_user, task_get_for_user

if TYPE_CHECKING:
    from apps.authentication.models import User

#: What a feature has that is in no plan.
_UNPLANNED = frozenset({"title", "description", "priority", "effort"})
_PLACE = ("before", "after")


@dataclass(frozen=True)
class Wish:
    """What comes with a change: the version that the person saw, if they say so, and why."""

    expected: int | None = None
    reason: str = ""


def feature_add(
    *, user: User, project_id: uuid.UUID, plan_id: uuid.UUID | None, fields: Mapping[str, Any], wish: Wish
) -> Feature:
    """A feature more, in the plan or in none; ``parent``, where given, is the row's id. Raises as ``plan_change``."""
    if plan_id is None:
        _unplanned_require(fields)
        return services.feature_create(user=user, project_id=project_id, **fields)
    try:
        plan = plan_get_for_user(user=user, plan_id=plan_id, write=True)
    except NotFound:
        raise InvalidInput("There is no such plan in this project.") from None
    if plan.project_id != project_id:
        raise InvalidInput("There is no such plan in this project.")
    added = {"op": "add_feature", **_parent_named(plan, fields)}
    key = _added(user, plan.id, added, wish, lambda document: document.features_by_key)
    return Feature.objects.get(plan=plan, key=key)


def feature_change(*, user: User, feature_id: uuid.UUID, fields: Mapping[str, Any], wish: Wish) -> Feature:
    """The feature with what is given changed or moved. Raises as ``plan_change``, InvalidInput."""
    feature = feature_get_for_user(user=user, feature_id=feature_id, write=True)
    if feature.plan is None:
        _unplanned_require(fields)
        return services.feature_update(user=user, feature=feature, **fields)
    named = _parent_named(feature.plan, fields)
    _operate(user, feature.plan, _changes("feature", feature.key, named, moving=("parent", *_PLACE)), wish)
    return feature_get_for_user(user=user, feature_id=feature_id)


def feature_remove(*, user: User, feature_id: uuid.UUID, cascade: bool, wish: Wish) -> None:
    """Without the feature and all in it. Raises as ``plan_change``, InvalidInput where something depends on it."""
    feature = feature_get_for_user(user=user, feature_id=feature_id, write=True)
    if feature.plan is None:
        services.feature_delete(user=user, feature=feature)
        return
    _operate(user, feature.plan, [{"op": "remove_feature", "key": feature.key, "cascade": cascade}], wish)


def task_add(*, user: User, feature_id: uuid.UUID, fields: Mapping[str, Any], wish: Wish) -> Task:
    """A task more in a feature of a plan. Raises as ``plan_change``; Conflict for a feature without one."""
    try:
        feature = feature_get_for_user(user=user, feature_id=feature_id, write=True)
    except NotFound:
        raise InvalidInput("There is no such feature.") from None
    if feature.plan is None:
        raise Conflict(
            "the feature is in no plan, so nothing would carry the task out",
            next_step="have it broken down, or add it to a plan",
            state="no_plan",
        )
    added = {"op": "add_task", "feature": feature.key, **fields}
    key = _added(user, feature.plan.id, added, wish, lambda document: document.tasks)
    return Task.objects.get(feature__plan=feature.plan, key=key)


def task_change(*, user: User, task_id: uuid.UUID, fields: Mapping[str, Any], wish: Wish) -> Task:
    """The task with what is given changed or moved; ``feature``, where given, is the row's id. As ``plan_change``."""
    task, plan = _task_and_plan(user, task_id)
    named = dict(fields)
    if "feature" in named:
        named["feature"] = _feature_key(plan, named["feature"])
    _operate(user, plan, _changes("task", task.key, named, moving=("feature", *_PLACE)), wish)
    return task_get_for_user(user=user, task_id=task_id)


def task_remove(*, user: User, task_id: uuid.UUID, cascade: bool, wish: Wish) -> None:
    """Without the task. Raises as ``plan_change``, InvalidInput where something depends on it."""
    task, plan = _task_and_plan(user, task_id)
    _operate(user, plan, [{"op": "remove_task", "key": task.key, "cascade": cascade}], wish)


def task_skip(*, user: User, task_id: uuid.UUID, is_skipped: bool, wish: Wish) -> Task:
    """Done without, or wanted again. The same again changes nothing. Raises as ``plan_change``."""
    task, plan = _task_and_plan(user, task_id)
    _operate(user, plan, [{"op": "skip_task" if is_skipped else "unskip_task", "key": task.key}], wish)
    return task_get_for_user(user=user, task_id=task_id)


def task_split(*, user: User, task_id: uuid.UUID, parts: Sequence[Mapping[str, Any]], wish: Wish) -> list[Task]:
    """The tasks that stand in the place of this one, in order. Raises as ``plan_change``."""
    task, plan = _task_and_plan(user, task_id)
    made: list[str] = []

    def make(row: Plan, now: PlanDoc) -> PlanDoc:
        read = operations_read([{"op": "split_task", "key": task.key, "parts": list(parts)}])
        after = operations_apply(now, read, past=keys_past(row))
        known = set(now.tasks) - {task.key}
        made[:] = [key for key in after.tasks if key not in known]
        return after

    plan_change(user=user, plan_id=plan.id, make=make, expected=wish.expected, reason=wish.reason)
    rows = {row.key: row for row in Task.objects.filter(feature__plan=plan, key__in=made).select_related("feature")}
    return [rows[key] for key in made]


# --- How --------------------------------------------------------------------------------------------------------------
def _operate(user: User, plan: Plan, operations: Sequence[Mapping[str, Any]], wish: Wish) -> None:
    read = operations_read(operations)
    plan_edit(user=user, plan_id=plan.id, operations=read, expected=wish.expected, reason=wish.reason)


def _added(
    user: User,
    plan_id: uuid.UUID,
    operation: Mapping[str, Any],
    wish: Wish,
    keys_of: Callable[[PlanDoc], Mapping[str, object]],
) -> str:
    """Add something; the key that it got."""
    read = operations_read([operation])
    new: list[str] = []

    def make(row: Plan, now: PlanDoc) -> PlanDoc:
        after = operations_apply(now, read, past=keys_past(row))
        new[:] = [key for key in keys_of(after) if key not in keys_of(now)]
        return after

    plan_change(user=user, plan_id=plan_id, make=make, expected=wish.expected, reason=wish.reason)
    return new[0]


def _changes(kind: str, key: str, fields: Mapping[str, Any], *, moving: Sequence[str]) -> list[dict[str, Any]]:
    """Operations that change what is given of a feature or task, and those that move it."""
    place = {name: fields[name] for name in moving if name in fields}
    given = {name: value for name, value in fields.items() if name not in moving}
    operations = [{"op": f"update_{kind}", "key": key, **given}] if given else []
    operations += [{"op": f"move_{kind}", "key": key, **place}] if place else []
    if not operations:
        raise InvalidInput("nothing is to be changed", next_step="name what is")
    return operations


def _task_and_plan(user: User, task_id: uuid.UUID) -> tuple[Task, Plan]:
    task = task_get_for_user(user=user, task_id=task_id, write=True)
    plan = task.feature.plan
    # Tasks are made with plans alone.
    assert plan is not None
    return task, plan


def _parent_named(plan: Plan, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with the parent's key in place of its id; null: none."""
    if "parent" not in fields:
        return dict(fields)
    return {**fields, "parent": _feature_key(plan, fields["parent"]) if fields["parent"] else ""}


def _feature_key(plan: Plan, feature_id: uuid.UUID) -> str:
    key = Feature.objects.filter(plan=plan, id=feature_id).values_list("key", flat=True).first()
    if key is None:
        raise InvalidInput("The plan has no such feature.", next_step="name one of the same plan by its id")
    return key


def _unplanned_require(fields: Mapping[str, Any]) -> None:
    if unknown := sorted(set(fields) - _UNPLANNED):
        raise InvalidInput(
            f"{unknown[0]} is for features of a plan",
            next_step="name the plan, or leave it out" if "plan" not in unknown else "",
        )
