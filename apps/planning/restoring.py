"""Going back to what an earlier version of a plan said, for what has not started."""

from __future__ import annotations

from collections.abc import Mapping, Set

from apps.planning.document import FeatureDoc, PlacedTask, PlanDoc, TaskDoc
from apps.planning.revising import feature_change
from apps.planning.types import TaskState


def plan_restored(former: PlanDoc, now: PlanDoc, states: Mapping[str, TaskState]) -> PlanDoc:
    """The plan as ``former`` has it, with what was begun as ``now`` has it.

    What was begun since stays in its feature, which is made where the former plan lacks it; so does what it depends
    on. What else depends on something that isn't there any more is left to be found by the plan's checks.
    """
    kept = _kept(now, former, {key for key in now.tasks if states.get(key, TaskState()).started})
    restored = former.tasks_map(lambda task: now.tasks[task.key] if task.key in kept else task)
    for placed in now.placed_tasks:
        if placed.task.key in kept and placed.task.key not in former.tasks:
            restored = _put(restored, placed)
    return restored


def _kept(now: PlanDoc, former: PlanDoc, started: Set[str]) -> set[str]:
    """What was begun, and of what the former plan lacks all that those depend on."""
    kept, waiting = set(started), list(started)
    while waiting:
        for key in now.tasks[waiting.pop()].depends_on:
            if key in now.tasks and key not in former.tasks and key not in kept:
                kept.add(key)
                waiting.append(key)
    return kept


def _put(document: PlanDoc, placed: PlacedTask) -> PlanDoc:
    """The plan with the task last in its feature; features around it that are missing are made."""
    path = placed.within
    known = [at for at, feature in enumerate(path) if feature.key in document.features_by_key]
    if not known:
        return document.model_copy(update={"features": (*document.features, _made(path, placed.task))})
    at = known[-1]

    def held(feature: FeatureDoc) -> FeatureDoc:
        if missing := path[at + 1 :]:
            return feature.model_copy(update={"features": (*feature.features, _made(missing, placed.task))})
        return feature.model_copy(update={"tasks": (*feature.tasks, placed.task)})

    return feature_change(document, path[at].key, held)


def _made(path: tuple[FeatureDoc, ...], task: TaskDoc) -> FeatureDoc:
    """The features of the path, each within the one before, with this task in the last and nothing else."""
    bare = {"tasks": (), "features": (), "depends_on": ()}
    made = path[-1].model_copy(update={**bare, "tasks": (task,)})
    for outer in reversed(path[:-1]):
        made = outer.model_copy(update={**bare, "features": (made,)})
    return made
