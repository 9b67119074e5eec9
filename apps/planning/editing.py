"""Changing a plan's document by operations, one after the other; pure. What was begun is protected elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import singledispatch
from typing import Any

from pydantic import ValidationError

from apps.core.errors import InvalidInput
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.operations import (
    AddFeature,
    AddTask,
    Hold,
    MoveFeature,
    MoveTask,
    Operation,
    Release,
    RemoveFeature,
    RemoveTask,
    SkipTask,
    SplitTask,
    UnskipTask,
    UpdateFeature,
    UpdatePlan,
    UpdateTask,
    operations_read,
)
from apps.planning.placing import (
    feature_find,
    feature_put,
    feature_taken,
    features_each,
    features_map,
    held,
    known,
    once,
    task_find,
    task_put,
    task_update,
    tasks_replace,
)
from apps.planning.splitting import task_split

__all__ = ["Operation", "key_free", "operations_apply", "operations_read"]


def operations_apply(document: PlanDoc, operations: Sequence[Operation], *, past: Collection[str] = ()) -> PlanDoc:
    """The plan with each operation done in turn. Whether it holds then is :func:`checking.plan_problems`' to say.

    Raises InvalidInput, which names the operation (``operations[2]: …``), for a key that there isn't or that there is
    already, and for what would leave something that depends on nothing. What is added may depend on what a later
    operation adds. New keys that are chosen here are none that the plan has, or had before (``past``): what is told of
    a key in events and former versions stays true.
    """
    taken = {*document.tasks, *document.features_by_key, *past}
    touched: dict[str, int] = {}
    for number, operation in enumerate(operations):
        try:
            changed = _apply(operation, document, taken)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"operations[{number}]: {where}: {first['msg']}") from None
        except InvalidInput as error:
            raise InvalidInput(f"operations[{number}]: {error.message}", next_step=error.next_step) from None
        former = _dependencies(document)
        document = changed
        for key, needed in _dependencies(document).items():
            if former.get(key) != needed:
                touched[key] = number
    _dangling_refuse(document, touched)
    return document


def key_free(document: PlanDoc, prefix: str, *, taken: Collection[str] = ()) -> str:
    """The first of ``PREFIX1``, ``PREFIX2``, … that the plan doesn't use, and that isn't ``taken``."""
    used = {*document.tasks, *document.features_by_key, *taken}
    number = 1
    while f"{prefix}{number}" in used:
        number += 1
    return f"{prefix}{number}"


# --- What each operation does -----------------------------------------------------------------------------------------
@singledispatch
def _apply(operation: Any, document: PlanDoc, taken: set[str]) -> PlanDoc:
    raise InvalidInput(f"{type(operation).__name__} is no operation")


@_apply.register
def _update_plan(operation: UpdatePlan, document: PlanDoc, taken: set[str]) -> PlanDoc:
    return document.model_copy(update=operation.given())


@_apply.register
def _add_feature(operation: AddFeature, document: PlanDoc, taken: set[str]) -> PlanDoc:
    key = _key_new(document, operation.key, "F", taken)
    feature = FeatureDoc(key=key, title=operation.title, **operation.given("key", "title", "parent", "before", "after"))
    return feature_put(document, feature, operation)


@_apply.register
def _update_feature(operation: UpdateFeature, document: PlanDoc, taken: set[str]) -> PlanDoc:
    feature_find(document, operation.key)
    return features_map(document, {operation.key: operation.given("key")})


@_apply.register
def _remove_feature(operation: RemoveFeature, document: PlanDoc, taken: set[str]) -> PlanDoc:
    feature = feature_find(document, operation.key)
    inside = [placed.feature for placed in PlanDoc(summary="-", features=(feature,)).placed_features]
    features = {each.key for each in inside}
    tasks = {task.key for each in inside for task in each.tasks}
    rest = feature_taken(document, operation.key)
    return _independent(rest, features, tasks, cascade=operation.cascade)


@_apply.register
def _move_feature(operation: MoveFeature, document: PlanDoc, taken: set[str]) -> PlanDoc:
    feature = feature_find(document, operation.key)
    inside = {placed.feature.key for placed in PlanDoc(summary="-", features=(feature,)).placed_features}
    for key in (operation.parent, operation.before, operation.after):
        if key in inside:
            raise InvalidInput(f"{operation.key} can't be put to {key}: that is {operation.key} or a part of it")
        if key:
            feature_find(document, key)
    return feature_put(feature_taken(document, operation.key), feature, operation)


@_apply.register
def _add_task(operation: AddTask, document: PlanDoc, taken: set[str]) -> PlanDoc:
    key = _key_new(document, operation.key, "T", taken)
    task = TaskDoc(key=key, title=operation.title, **operation.given("key", "title", "feature", "before", "after"))
    return task_put(document, task.model_copy(update={"depends_on": once(task.depends_on)}), operation)


@_apply.register
def _update_task(operation: UpdateTask, document: PlanDoc, taken: set[str]) -> PlanDoc:
    return task_update(document, operation.key, **operation.given("key"))


@_apply.register
def _remove_task(operation: RemoveTask, document: PlanDoc, taken: set[str]) -> PlanDoc:
    task_find(document, operation.key)
    rest = document.tasks_map(lambda task: None if task.key == operation.key else task)
    return _independent(rest, set(), {operation.key}, cascade=operation.cascade)


@_apply.register
def _move_task(operation: MoveTask, document: PlanDoc, taken: set[str]) -> PlanDoc:
    task = task_find(document, operation.key)
    for key in (operation.before, operation.after):
        if key == operation.key:
            raise InvalidInput(f"{key} can't be put next to itself")
        if key:
            task_find(document, key)
    rest = document.tasks_map(lambda each: None if each.key == operation.key else each)
    return task_put(rest, task, operation)


@_apply.register
def _skip_task(operation: SkipTask, document: PlanDoc, taken: set[str]) -> PlanDoc:
    return task_update(document, operation.key, skipped=True)


@_apply.register
def _unskip_task(operation: UnskipTask, document: PlanDoc, taken: set[str]) -> PlanDoc:
    return task_update(document, operation.key, skipped=False)


@_apply.register
def _hold(operation: Hold, document: PlanDoc, taken: set[str]) -> PlanDoc:
    return held(document, operation.key, operation.reason)


@_apply.register
def _release(operation: Release, document: PlanDoc, taken: set[str]) -> PlanDoc:
    return held(document, operation.key, "")


@_apply.register
def _split_task(operation: SplitTask, document: PlanDoc, taken: set[str]) -> PlanDoc:
    task = task_find(document, operation.key)
    keys: list[str] = []
    for part in operation.parts:
        # The key of the task that is split is free: it may go on as a part.
        if part.key and part.key != operation.key and part.key in {*document.tasks, *document.features_by_key}:
            raise InvalidInput(f"there is {part.key} already", next_step="give the part another key, or none")
        keys.append(part.key or key_free(document, "T", taken={*taken, *keys, *(p.key for p in operation.parts)}))
    if len(set(keys)) < len(keys):
        raise InvalidInput("two parts have the same key", next_step="give each part a key of its own, or none")
    taken.update(keys)
    split = task_split(task, operation.parts, keys)
    place: dict[str, tuple[TaskDoc, ...]] = {operation.key: split.parts}
    replaced = tasks_replace(document, place)

    def dependents(each: TaskDoc) -> TaskDoc:
        if each.key in keys or operation.key not in each.depends_on:
            return each
        needs = [new for key in each.depends_on for new in (split.last if key == operation.key else (key,))]
        return each.model_copy(update={"depends_on": once(needs)})

    return replaced.tasks_map(dependents)


def _key_new(document: PlanDoc, key: str, prefix: str, taken: set[str]) -> str:
    if key in document.tasks or key in document.features_by_key:
        raise InvalidInput(f"there is {key} already", next_step="give another key, or none")
    chosen = key or key_free(document, prefix, taken=taken)
    taken.add(chosen)
    return chosen


# --- Dependencies -----------------------------------------------------------------------------------------------------
def _independent(document: PlanDoc, features: set[str], tasks: set[str], *, cascade: bool) -> PlanDoc:
    """The plan, which has lost these, without dependencies on them."""
    dependent = [
        *(placed.feature.key for placed in document.placed_features if features & set(placed.feature.depends_on)),
        *(placed.task.key for placed in document.placed_tasks if tasks & set(placed.task.depends_on)),
    ]
    if not dependent:
        return document
    if not cascade:
        raise InvalidInput(
            f"{', '.join(dependent[:20])} depend{'s' if len(dependent) == 1 else ''} on what would be removed",
            next_step="change their depends_on first, or say cascade to have these dependencies dropped",
        )

    def change(feature: FeatureDoc) -> FeatureDoc:
        kept = tuple(key for key in feature.depends_on if key not in features)
        held = tuple(
            task.model_copy(update={"depends_on": tuple(key for key in task.depends_on if key not in tasks)})
            for task in feature.tasks
        )
        return feature.model_copy(update={"depends_on": kept, "tasks": held})

    return features_each(document, change)


def _dependencies(document: PlanDoc) -> dict[str, tuple[str, ...]]:
    return {
        **{key: feature.depends_on for key, feature in document.features_by_key.items()},
        **{key: task.depends_on for key, task in document.tasks.items()},
    }


def _dangling_refuse(document: PlanDoc, touched: dict[str, int]) -> None:
    """Raise for the first operation by which something depends on what there isn't; what it had before stays."""
    found: list[tuple[int, str, str, str]] = []
    kinds: tuple[tuple[str, Mapping[str, FeatureDoc | TaskDoc]], ...] = (
        ("feature", document.features_by_key),
        ("task", document.tasks),
    )
    for kind, items in kinds:
        for key, item in items.items():
            found += [
                (touched[key], key, each, kind) for each in item.depends_on if key in touched and each not in items
            ]
    if found:
        number, key, needed, kind = min(found)
        raise InvalidInput(
            f"operations[{number}]: {key} depends on {needed}, and the plan has no such {kind}",
            next_step=known(f"{kind}s", dict(kinds)[kind]),
        )
