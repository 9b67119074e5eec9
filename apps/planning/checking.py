"""Finding what doesn't hold in a plan when it is made, rather than when it runs. Codes: docs/reference/plans.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from apps.planning.cycles import cycles_find
from apps.planning.document import MAX_DEPTH, MAX_FEATURES, MAX_TASKS, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.grounded import grounded_problems
from apps.planning.paths import path_fault
from apps.planning.problems import Grounding, PlanRefused, Problem, problems_refuse
from apps.planning.types import TaskAgent, TaskType
from apps.planning.waiting import waiting_cycles

__all__ = ["Grounding", "PlanRefused", "Problem", "cycles_find", "plan_problems", "problems_refuse"]

#: Agents that have no tool by which they could change a file.
READERS = frozenset({TaskAgent.RESEARCHER, TaskAgent.REVIEWER})
#: What can be done without changing a file.
_READING = frozenset({TaskType.RESEARCH, TaskType.REVIEW})


def plan_problems(document: PlanDoc, grounding: Grounding | None, *, begun: Collection[str] = ()) -> list[Problem]:
    """All that doesn't hold, rule by rule in the plan's order; without a ``grounding`` only what the document shows.

    With one this takes a while: call it in a thread. ``begun`` are the tasks that were begun: what they name is not
    looked up any more, nor is what is skipped. Of a plan that is too large nothing else is told.
    """
    problems = list(_sizes(document))
    if any(problem.code == "too_large" for problem in problems):
        return problems
    problems += [*_keys(document), *_words(document), *_readers(document)]
    is_clear = not any(problem.code == "duplicate_key" for problem in problems)
    problems += _dependencies(document)
    if is_clear:
        problems += waiting_cycles(document)
    problems += _paths(document)
    if grounding is not None:
        problems += grounded_problems(document, grounding, begun=begun)
    return problems


def _sizes(document: PlanDoc) -> Iterator[Problem]:
    if not document.tasks:
        hint = "give a feature a task that says what to do"
        yield Problem("features", "no_task", "a plan needs at least one task", hint)
    for name, count, most in (
        ("features", len(document.placed_features), MAX_FEATURES),
        ("tasks", len(document.placed_tasks), MAX_TASKS),
    ):
        if count > most:
            message = f"a plan has at most {most} {name}, this one has {count}"
            yield Problem("features", "too_large", message, "plan what comes first, and leave the rest for later")
    if any(len(placed.within) >= MAX_DEPTH for placed in document.placed_features):
        yield Problem("features", "too_large", f"features are nested at most {MAX_DEPTH} deep", "nest them less")


def _keys(document: PlanDoc) -> Iterator[Problem]:
    for key, count in Counter(item.key for _, item in _items(document)).items():
        if count > 1:
            message = f"the key {key} is used {count} times"
            yield Problem(key, "duplicate_key", message, "give each feature and each task a key of its own")


def _words(document: PlanDoc) -> Iterator[Problem]:
    """Texts that say nothing, or that can't be kept."""
    if not document.summary.strip():
        yield Problem("summary", "blank", "the summary is blank", "say in a sentence what the plan comes to")
    yield from _unstorable("summary", document.summary)
    for where, item in _items(document):
        if not item.title.strip():
            yield Problem(f"{where}.title", "blank", f"the title of {item.key} is blank", "say what it is about")
        for name in ("title", "blocked_reason", "instructions" if isinstance(item, TaskDoc) else "description"):
            yield from _unstorable(f"{where}.{name}", getattr(item, name))
        if isinstance(item, TaskDoc):
            for number, check in enumerate(item.checks):
                place = f"{where}.checks.{number}"
                if not check.command.strip():
                    message = f"a check of {item.key} has a blank command"
                    yield Problem(place, "check_cannot_run", message, "give a command, or leave the check out")
                yield from _unstorable(place, check.command + check.name)


def _unstorable(where: str, text: str) -> Iterator[Problem]:
    if "\0" in text:
        yield Problem(where, "bad_text", f"{where} has a NUL character", "write it without")


def _items(document: PlanDoc) -> Iterator[tuple[str, FeatureDoc | TaskDoc]]:
    """Features, then tasks, each with where it is."""
    for placed in document.placed_features:
        yield f"features.{placed.feature.key}", placed.feature
    for placed_task in document.placed_tasks:
        yield f"tasks.{placed_task.task.key}", placed_task.task


def _readers(document: PlanDoc) -> Iterator[Problem]:
    """What is asked of agents that can't do it."""
    for placed in document.placed_tasks:
        task = placed.task
        reads = task.agent_type in READERS
        if reads and task.type not in _READING:
            message = f"{task.key} is of type {task.type.value}, and a {task.agent_type.value} changes no file"
            hint = "give it to a coder, or make it a task of type research or review"
            yield Problem(f"tasks.{task.key}.agent_type", "wrong_agent", message, hint)
        if task.creates and (reads or task.type in _READING):
            who = f"a {task.agent_type.value}" if reads else f"a task of type {task.type.value}"
            message = f"{task.key} is to make {task.creates[0]}, and {who} makes no file"
            hint = "leave creates out: what it finds is its report; or make it a task of type docs for a coder"
            yield Problem(f"tasks.{task.key}.creates", "reader_creates", message, hint)


def _dependencies(document: PlanDoc) -> Iterator[Problem]:
    known = {"features": set(document.features_by_key), "tasks": set(document.tasks)}
    keys = Counter(item.key for _, item in _items(document))
    for where, item in _items(document):
        kind, other = ("features", "tasks") if isinstance(item, FeatureDoc) else ("tasks", "features")
        place = f"{where}.depends_on"
        for key, count in Counter(item.depends_on).items():
            if key == item.key:
                # Of a key that is used twice, another one may be meant.
                if keys[key] == 1:
                    yield Problem(place, "cycle", f"{item.key} depends on itself", "leave it out")
            elif key not in known[kind]:
                message = f"{item.key} depends on {key}, and the plan has no such {kind.removesuffix('s')}"
                hint = f"{kind} depend on {kind} alone; " if key in known[other] else ""
                named = ", ".join(sorted(known[kind] - {item.key})[:20])
                hint += f"known are {named}" if named else "there is nothing else that it could depend on"
                yield Problem(place, "missing_dependency", message, hint)
            if count > 1:
                yield Problem(place, "duplicate_dependency", f"{item.key} names {key} {count} times", "name it once")
    for placed in document.placed_features:
        around = [feature.key for feature in placed.within]
        for key in dict.fromkeys(placed.feature.depends_on):
            if key in around:
                message = f"{placed.feature.key} depends on {key}, which it is a part of"
                yield Problem(f"features.{placed.feature.key}.depends_on", "cycle", message, "leave it out")
        for outer in placed.within:
            if placed.feature.key in outer.depends_on and outer.key != placed.feature.key:
                message = f"{outer.key} depends on {placed.feature.key}, which is a part of it"
                hint = "leave it out; a task of the one may depend on a task of the other"
                yield Problem(f"features.{outer.key}.depends_on", "cycle", message, hint)


def _paths(document: PlanDoc) -> Iterator[Problem]:
    for placed in document.placed_tasks:
        task = placed.task
        for name, paths in (("files", task.files), ("creates", task.creates)):
            for path in dict.fromkeys(paths):
                fault = path_fault(path)
                if fault is None and name == "creates" and any(character in path for character in "*?"):
                    fault = "is a pattern", "name each file that is made"
                if fault is not None:
                    message = f"the path {path!r} of {task.key} {fault[0]}"
                    yield Problem(f"tasks.{task.key}.{name}", "bad_path", message, fault[1])
