"""Finding features and tasks in a plan's document, and making one with them elsewhere or otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from apps.core.errors import InvalidInput
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.operations import AddFeature, AddTask, MoveFeature, MoveTask

_Item = TypeVar("_Item", bound=FeatureDoc | TaskDoc)


def task_find(document: PlanDoc, key: str) -> TaskDoc:
    if key not in document.tasks:
        raise InvalidInput(f"the plan has no task {key}", next_step=known("tasks", document.tasks))
    return document.tasks[key]


def feature_find(document: PlanDoc, key: str) -> FeatureDoc:
    if key not in document.features_by_key:
        raise InvalidInput(f"the plan has no feature {key}", next_step=known("features", document.features_by_key))
    return document.features_by_key[key]


def known(kind: str, keys: Iterable[str]) -> str:
    named = ", ".join(list(keys)[:30])
    return f"its {kind} are {named}" if named else f"it has no {kind}"


def once(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keys))


def task_update(document: PlanDoc, key: str, **changes: Any) -> PlanDoc:
    task_find(document, key)
    if "depends_on" in changes:
        changes["depends_on"] = once(changes["depends_on"])
    return document.tasks_map(lambda task: task.model_copy(update=changes) if task.key == key else task)


def held(document: PlanDoc, key: str, reason: str) -> PlanDoc:
    if key in document.tasks:
        return task_update(document, key, blocked_reason=reason)
    if key not in document.features_by_key:
        raise InvalidInput(f"the plan has no feature or task {key}", next_step="look at the plan's keys")
    return features_map(document, {key: {"blocked_reason": reason}})


def tasks_replace(document: PlanDoc, by: dict[str, tuple[TaskDoc, ...]]) -> PlanDoc:
    """The plan with others in place of some tasks."""

    def change(feature: FeatureDoc) -> FeatureDoc:
        tasks = tuple(new for task in feature.tasks for new in by.get(task.key, (task,)))
        return feature.model_copy(update={"tasks": tasks})

    return features_each(document, change)


def features_map(document: PlanDoc, changes: dict[str, dict[str, Any]]) -> PlanDoc:
    def change(feature: FeatureDoc) -> FeatureDoc:
        given = dict(changes.get(feature.key, {}))
        if "depends_on" in given:
            given["depends_on"] = once(given["depends_on"])
        return feature.model_copy(update=given)

    return features_each(document, change)


def features_each(document: PlanDoc, change: Callable[[FeatureDoc], FeatureDoc]) -> PlanDoc:
    def changed(feature: FeatureDoc) -> FeatureDoc:
        inner = tuple(changed(each) for each in feature.features)
        return change(feature.model_copy(update={"features": inner}))

    return document.model_copy(update={"features": tuple(changed(each) for each in document.features)})


def feature_taken(document: PlanDoc, key: str) -> PlanDoc:
    """The plan without a feature and all that is in it."""

    def without(features: tuple[FeatureDoc, ...]) -> tuple[FeatureDoc, ...]:
        return tuple(
            each.model_copy(update={"features": without(each.features)}) for each in features if each.key != key
        )

    return document.model_copy(update={"features": without(document.features)})


def feature_put(document: PlanDoc, feature: FeatureDoc, place: AddFeature | MoveFeature) -> PlanDoc:
    beside = place.before or place.after
    parent = place.parent
    if parent:
        feature_find(document, parent)
    if beside:
        feature_find(document, beside)
        around = next(each.within for each in document.placed_features if each.feature.key == beside)
        where = around[-1].key if around else ""
        if "parent" in place.model_fields_set and where != parent:
            raise InvalidInput(f"{beside} is not in {parent or 'the plan itself'}", next_step="give one of the two")
        parent = where
    if not parent:
        return document.model_copy(update={"features": _inserted(document.features, feature, place)})

    def change(each: FeatureDoc) -> FeatureDoc:
        if each.key != parent:
            return each
        return each.model_copy(update={"features": _inserted(each.features, feature, place)})

    return features_each(document, change)


def task_put(document: PlanDoc, task: TaskDoc, place: AddTask | MoveTask) -> PlanDoc:
    beside, where = place.before or place.after, place.feature
    if where:
        feature_find(document, where)
    if beside:
        task_find(document, beside)
        found = next(each.feature.key for each in document.placed_tasks if each.task.key == beside)
        if where and where != found:
            raise InvalidInput(f"{beside} is in {found}, not in {where}", next_step="give one of the two")
        where = found
    if not where:
        if len(document.features_by_key) != 1:
            raise InvalidInput("say which feature it belongs to", next_step=known("features", document.features_by_key))
        where = next(iter(document.features_by_key))

    def change(each: FeatureDoc) -> FeatureDoc:
        return each.model_copy(update={"tasks": _inserted(each.tasks, task, place)}) if each.key == where else each

    return features_each(document, change)


def _inserted(
    items: tuple[_Item, ...], item: _Item, place: AddFeature | MoveFeature | AddTask | MoveTask
) -> tuple[_Item, ...]:
    keys = [each.key for each in items]
    at: int = len(items)
    if place.before:
        at = keys.index(place.before)
    elif place.after:
        at = keys.index(place.after) + 1
    return (*items[:at], item, *items[at:])
