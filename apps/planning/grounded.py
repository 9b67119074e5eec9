"""What a plan says of files and commands, held against the repository that it is for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from apps.planning.document import PlanDoc, TaskDoc
from apps.planning.paths import folders_above, path_clean, path_fault
from apps.planning.problems import Grounding, Problem


def grounded_problems(document: PlanDoc, grounding: Grounding, *, begun: Collection[str] = ()) -> Iterator[Problem]:
    """Files that aren't there or are there already, and checks that can't run, in the plan's order.

    What is skipped and what was ``begun`` is passed over. What such a task makes counts if it was begun, and doesn't
    if it is skipped. A path that can't be one is told elsewhere.
    """
    plan = _Plan(document, frozenset(begun))
    for placed in document.placed_tasks:
        task = placed.task
        if task.skipped or task.key in plan.begun:
            continue
        before = plan.before(task.key)
        yield from _files(plan, grounding, task, before)
        yield from _creates(plan, grounding, task, before)
        yield from _checks(plan, grounding, task, before)


class _Plan:
    """What is made by which task, and what is done before which."""

    def __init__(self, document: PlanDoc, begun: frozenset[str]) -> None:
        self.document, self.begun = document, begun
        self.tasks = document.tasks
        self.order = {key: place for place, key in enumerate(self.tasks)}
        self._before: dict[str, dict[str, TaskDoc]] = {}
        self.makers: dict[str, list[str]] = {}
        for placed in document.placed_tasks:
            for path in paths_clean(placed.task.creates):
                self.makers.setdefault(path, []).append(placed.task.key)
        known = document.tasks
        features = document.features_by_key
        #: Whether something that a task needs has no such name, so that what it makes can't be known.
        self.loose = any(key not in known for placed in document.placed_tasks for key in placed.task.depends_on) or any(
            key not in features for feature in features.values() for key in feature.depends_on
        )

    def before(self, key: str) -> dict[str, TaskDoc]:
        """The tasks that are done when this one begins. One that is skipped is not, nor need be what it waited for."""
        if key in self._before:
            return self._before[key]
        found = self._before[key] = {}
        waiting = [key]
        while waiting:
            for needed in self.document.needs[waiting.pop()]:
                if needed not in found and needed != key and not self.tasks[needed].skipped:
                    found[needed] = self.tasks[needed]
                    waiting.append(needed)
        return found


@dataclass(frozen=True)
class _Made:
    """Paths that are made, with the folders that they are in; what one holds that is made as a folder is made, too."""

    paths: frozenset[str]
    folders: frozenset[str]

    @classmethod
    def of(cls, paths: Collection[str]) -> _Made:
        return cls(frozenset(paths), frozenset(folder for path in paths for folder in folders_above(path)))

    def __contains__(self, path: object) -> bool:
        return (
            path in self.paths
            or path in self.folders
            or any(folder in self.paths for folder in folders_above(str(path)))
        )


def paths_clean(paths: Collection[str]) -> list[str]:
    """Those that can be paths of a repository, as it has them, each once."""
    return list(dict.fromkeys(path_clean(path) for path in paths if path_fault(path) is None))


def _made(plan: _Plan, task: TaskDoc, before: Mapping[str, TaskDoc]) -> list[str]:
    # What a task needs by a name that there isn't could be any of the others.
    makers = plan.tasks.values() if plan.loose else (*before.values(), task)
    return [path for each in makers if not each.skipped or plan.loose for path in paths_clean(each.creates)]


def _files(plan: _Plan, grounding: Grounding, task: TaskDoc, before: Mapping[str, TaskDoc]) -> Iterator[Problem]:
    made = _Made.of(_made(plan, task, before))
    for path in paths_clean(task.files):
        if path in made or grounding.file_exists(path):
            continue
        message = f"{task.key} names {path}, which is not in the repository"
        yield Problem(f"tasks.{task.key}.files", "missing_file", message, _hint(plan, grounding, task, path))


def _hint(plan: _Plan, grounding: Grounding, task: TaskDoc, path: str) -> str:
    makers = [key for key in plan.makers.get(path, ()) if key != task.key]
    for key in makers:
        if not plan.tasks[key].skipped:
            return f"{key} makes it: let {task.key} depend on {key}"
    if makers:
        return f"{makers[0]}, which would make it, is skipped"
    if any(character in path for character in "*?"):
        return "name files, not patterns"
    if like := list(grounding.files_like(path)):
        return f"was {' or '.join(like[:3])} meant? What a task makes is named under creates"
    return f"if {task.key} makes it, name it under creates; else leave it out"


def _creates(plan: _Plan, grounding: Grounding, task: TaskDoc, before: Mapping[str, TaskDoc]) -> Iterator[Problem]:
    where = f"tasks.{task.key}.creates"
    as_folders = {path_clean(path) for path in task.creates if path.endswith("/")}
    for path in paths_clean(task.creates):
        # A folder may be there already: nothing of it is written over.
        if _is_file(grounding, path) or (path not in as_folders and grounding.file_exists(path)):
            message = f"{task.key} is to make {path}, which is in the repository already"
            yield Problem(where, "exists_already", message, "name it under files if it is to be changed")
        elif in_the_way := next((above for above in folders_above(path) if _is_file(grounding, above)), ""):
            message = f"{task.key} is to make {path}, and {in_the_way} is a file of the repository already"
            yield Problem(where, "exists_already", message, "give it a place in a folder")
        for other in plan.makers[path]:
            if other == task.key or other in plan.begun or plan.tasks[other].skipped or path in as_folders:
                continue
            # Told once, of the later one; it may be that the other one needs it.
            is_earlier = plan.order[other] < plan.order[task.key]
            if is_earlier and other not in before and task.key not in plan.before(other) and not plan.loose:
                message = f"{other} and {task.key} both make {path}, and neither needs the other"
                hint = f"let one make it, and the other depend on it and name {path} under files"
                yield Problem(where, "created_twice", message, hint)


def _is_file(grounding: Grounding, path: str) -> bool:
    return grounding.file_exists(path) and not grounding.file_exists(f"{path}/")


def _checks(plan: _Plan, grounding: Grounding, task: TaskDoc, before: Mapping[str, TaskDoc]) -> Iterator[Problem]:
    if not task.checks:
        return
    touched = [path for each in (*before.values(), task) for path in paths_clean(each.files)]
    there = frozenset([*_made(plan, task, before), *touched])
    for number, check in enumerate(task.checks):
        if check.command.strip() and (why := grounding.check_problem(check.command, there)):
            message = f"the check {_short(check.command)} of {task.key} can't run: {why}"
            hint = "give a command that can run once the task is done, or leave the check out"
            yield Problem(f"tasks.{task.key}.checks.{number}", "check_cannot_run", message, hint)


def _short(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= 120 else f"{line[:117]}..."
