"""Fitting what a planner hands over into a plan that is there already, and making the best of what doesn't hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from apps.planning.cycles import cycles_find
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.problems import Problem
from apps.planning.types import TaskState
from apps.planning.waiting import waiting_cycles

_NUMBERED = re.compile(r"^(?P<prefix>.*?)(?P<number>\d+)?$")


def started_keys(states: Mapping[str, TaskState]) -> frozenset[str]:
    """The tasks that were begun, whatever came of them."""
    return frozenset(key for key, state in states.items() if state.started)


def started_keep(before: PlanDoc, after: PlanDoc, states: Mapping[str, TaskState]) -> PlanDoc:
    """``after`` with every task that was begun as ``before`` has it: a planner need not repeat what is done.

    One that ``after`` leaves out comes back into its feature; a feature that is gone comes back for it.
    """
    started = [placed for placed in before.placed_tasks if states.get(placed.task.key, TaskState()).started]
    if not started:
        return after
    own = {placed.task.key: placed.task for placed in started}
    kept = after.tasks_map(lambda task: own.get(task.key, task))
    # The last one first, since each comes to the front.
    for placed in reversed(started):
        if placed.task.key not in kept.tasks:
            kept = _placed_again(kept, placed.within, placed.task)
    return kept


def _placed_again(plan: PlanDoc, within: Sequence[FeatureDoc], task: TaskDoc) -> PlanDoc:
    """The plan with the task in the innermost of these features, before the tasks that have not begun."""
    known = plan.features_by_key
    if within[-1].key in known:
        return feature_change(
            plan, within[-1].key, lambda feature: feature.model_copy(update={"tasks": (task, *feature.tasks)})
        )
    shell = within[-1].model_copy(update={"tasks": (task,), "features": ()})
    around = next((feature.key for feature in reversed(within[:-1]) if feature.key in known), None)
    if around is None:
        return plan.model_copy(update={"features": (shell, *plan.features)})
    return feature_change(
        plan, around, lambda feature: feature.model_copy(update={"features": (shell, *feature.features)})
    )


def feature_change(plan: PlanDoc, key: str, change: Callable[[FeatureDoc], FeatureDoc]) -> PlanDoc:
    """The plan with the feature of this key as ``change`` makes it."""

    def walked(features: Iterable[FeatureDoc]) -> tuple[FeatureDoc, ...]:
        return tuple(
            change(feature) if feature.key == key else feature.model_copy(update={"features": walked(feature.features)})
            for feature in features
        )

    return plan.model_copy(update={"features": walked(plan.features)})


def feature_fill(plan: PlanDoc, key: str, submitted: PlanDoc) -> PlanDoc:
    """The plan with what was handed over in the feature of this key, after what it holds already.

    Of one feature that was handed over the content goes into it; several become features within it. A key that the
    plan has already gives way to a free one, and so do references to it within what was handed over.
    """
    renamed = _apart(submitted, {*plan.tasks, *plan.features_by_key})
    return feature_change(plan, key, lambda feature: feature_hold(feature, renamed))


def feature_hold(feature: FeatureDoc, submitted: PlanDoc) -> FeatureDoc:
    """The feature with what was handed over in it, which uses no key of it."""
    if len(submitted.features) != 1:
        return feature.model_copy(update={"features": (*feature.features, *submitted.features)})
    inner = submitted.features[0]
    return feature.model_copy(
        update={"tasks": (*feature.tasks, *inner.tasks), "features": (*feature.features, *inner.features)}
    )


def _apart(submitted: PlanDoc, used: set[str]) -> PlanDoc:
    taken = {*used, *submitted.tasks, *submitted.features_by_key}
    names: dict[str, str] = {}
    for key in (*submitted.features_by_key, *submitted.tasks):
        if key in used:
            names[key] = key_next(key, taken)
            taken.add(names[key])

    def named(keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(names.get(key, key) for key in keys)

    def features(each: Iterable[FeatureDoc]) -> tuple[FeatureDoc, ...]:
        return tuple(
            feature.model_copy(
                update={
                    "key": names.get(feature.key, feature.key),
                    "depends_on": named(feature.depends_on),
                    "features": features(feature.features),
                }
            )
            for feature in each
        )

    tasks = submitted.tasks_map(
        lambda task: task.model_copy(
            update={"key": names.get(task.key, task.key), "depends_on": named(task.depends_on)}
        )
    )
    return tasks.model_copy(update={"features": features(tasks.features)})


def key_next(key: str, used: Iterable[str]) -> str:
    """The first key after this one that is free: ``T4`` after ``T1`` where ``T2`` and ``T3`` are taken."""
    taken = set(used)
    match = _NUMBERED.match(key)
    assert match is not None
    prefix, number = (match["prefix"], int(match["number"])) if match["number"] else (f"{key}-", 1)
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def plan_mend(plan: PlanDoc, problems: Sequence[Problem]) -> PlanDoc:
    """The best that can be made of a plan in which these don't hold, by leaving out what they are about.

    Dependencies that there aren't, or that close a cycle; files and checks of the tasks whose files or checks don't
    hold. Whether that was enough is for the caller to look at.
    """
    tasks, features = set(plan.tasks), set(plan.features_by_key)
    about = {(where, field) for where, field in (_parts(problem.where) for problem in problems) if field}

    def task_mended(task: TaskDoc) -> TaskDoc:
        update: dict[str, object] = {
            "depends_on": tuple(key for key in task.depends_on if key in tasks and key != task.key)
        }
        for field in ("files", "creates", "checks"):
            if (task.key, field) in about:
                update[field] = ()
        return task.model_copy(update=update)

    def features_mended(each: Iterable[FeatureDoc], around: frozenset[str]) -> tuple[FeatureDoc, ...]:
        return tuple(
            feature.model_copy(
                update={
                    "depends_on": tuple(
                        key for key in feature.depends_on if key in features and key not in around | {feature.key}
                    ),
                    "features": features_mended(feature.features, around | {feature.key}),
                }
            )
            for feature in each
        )

    mended = plan.tasks_map(task_mended)
    mended = mended.model_copy(update={"features": features_mended(mended.features, frozenset())})
    return _acyclic(mended)


def _parts(where: str) -> tuple[str, str]:
    """Key and field of ``tasks.KEY.files`` and of ``tasks.KEY.checks.0``; keys may hold dots themselves."""
    match = re.match(r"^tasks\.(?P<key>.+?)\.(?P<field>files|creates|checks)(?:\W.*)?$", where)
    return (match["key"], match["field"]) if match else (where, "")


def _acyclic(plan: PlanDoc) -> PlanDoc:
    """Without the tasks' own dependencies that close cycles; where features still do, without those of features."""
    opened = _tasks_acyclic(plan)
    is_clear = len(plan.placed_tasks) + len(plan.placed_features) == len({*plan.tasks, *plan.features_by_key})
    if is_clear and any(waiting_cycles(opened)):
        return _tasks_acyclic(_features_independent(plan))
    return opened


def _tasks_acyclic(plan: PlanDoc) -> PlanDoc:
    while cycles := cycles_find(plan.needs):
        closing = {(cycle[-1], cycle[0]) for cycle in cycles}
        opened = plan.tasks_map(partial(_without, closing))
        if opened == plan:
            break
        plan = opened
    return plan


def _without(closing: set[tuple[str, str]], task: TaskDoc) -> TaskDoc:
    return task.model_copy(
        update={"depends_on": tuple(key for key in task.depends_on if (task.key, key) not in closing)}
    )


def _features_independent(plan: PlanDoc) -> PlanDoc:
    def walked(features: Iterable[FeatureDoc]) -> tuple[FeatureDoc, ...]:
        return tuple(
            feature.model_copy(update={"depends_on": (), "features": walked(feature.features)}) for feature in features
        )

    return plan.model_copy(update={"features": walked(plan.features)})
