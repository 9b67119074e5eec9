"""Cycles among all that a plan has wait for each other: tasks, features, and what is a part of what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from apps.planning.cycles import cycles_find
from apps.planning.document import PlanDoc
from apps.planning.problems import Problem

#: Before the key of what begins, and of what is done.
_BEGIN, _DONE = "<", ">"


def waiting_cycles(document: PlanDoc) -> Iterator[Problem]:
    """A problem for each cycle, as a sentence of who needs whom. Keys are unique in the document.

    A feature that depends on what it is in, or on what is in it, is told elsewhere, as is whatever depends on itself.
    """
    for cycle in cycles_find(_steps(document), may_cut=_is_dependency):
        keys = [node[1:] for node in cycle]
        place = next((key for key in keys if key in document.tasks), keys[0])
        where = f"{'tasks' if place in document.tasks else 'features'}.{place}.depends_on"
        yield Problem(where, "cycle", f"they wait for each other: {_told(cycle)}", "leave one of these out")


def _steps(document: PlanDoc) -> dict[str, list[str]]:
    """By what begins or is done, what has to begin or be done before.

    Whatever is done has begun. A feature is done with all that it holds, which begins no sooner than the feature may.
    """
    steps: dict[str, list[str]] = {}
    for placed in document.placed_features:
        feature = placed.feature
        around = {each.key for each in placed.within}
        inner = {each.feature.key for each in document.placed_features if feature in each.within}
        begin = [_DONE + key for key in feature.depends_on if key not in {feature.key} | around | inner]
        begin += [_BEGIN + placed.within[-1].key] if placed.within else []
        steps[_BEGIN + feature.key] = begin
        held = [*(task.key for task in feature.tasks), *(each.key for each in feature.features)]
        steps[_DONE + feature.key] = [_BEGIN + feature.key, *(_DONE + key for key in held)]
    for placed_task in document.placed_tasks:
        task = placed_task.task
        needed = [_DONE + key for key in task.depends_on if key != task.key and key in document.tasks]
        steps[_BEGIN + task.key] = [*needed, _BEGIN + placed_task.feature.key]
        steps[_DONE + task.key] = [_BEGIN + task.key]
    return steps


def _is_dependency(node: str, following: str) -> bool:
    return node[0] == _BEGIN and following[0] == _DONE


def _told(cycle: Sequence[str]) -> str:
    words: list[str] = []
    for node, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        if node[1:] == following[1:]:
            continue
        if node[0] == _DONE:
            verb = "holds"
        else:
            verb = "needs" if _is_dependency(node, following) else "is in"
        words.append(f"{verb} {following[1:]}")
    return f"{cycle[0][1:]} " + ", which ".join(words)
