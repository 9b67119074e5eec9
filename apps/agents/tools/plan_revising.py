"""What a revision comes to: the plan as it is, with what has not started as it was handed over.

No rows: it is worked out when the revision is handed over, to say what doesn't hold, and again on the plan as it is
when the revision is written down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from apps.agents.tools.planning import PREVIOUS
from apps.agents.tools.replanning import RevisedFeatureArguments, RevisedTaskArguments, RevisePlanArguments
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.problems import Problem
from apps.planning.types import TaskState, TaskStatus

#: What of a task that is there is only changed by something to put in its place.
_FILLED = ("title", "instructions", "files", "creates")
_NAME_ALL = "name each that stays by its key in features, and each that is done without in drop"


@dataclass(frozen=True)
class Revision:
    """The plan as it would be, and what of the revision itself can't be followed."""

    document: PlanDoc
    problems: tuple[Problem, ...] = ()


def revision_of(
    arguments: RevisePlanArguments, before: PlanDoc, states: Mapping[str, TaskState], *, within: str | None = None
) -> Revision:
    """The plan with its tasks that have not started as ``arguments`` has them.

    ``within``: a follow-up's feature, to which the revision is confined; all that it names goes in there. Whether the
    plan holds then is not looked at. Raises pydantic's ValidationError where a key or a text is none.
    """
    made = _Revising(arguments, before, states, within)
    document = made.document()
    return Revision(document, tuple(made.problems))


@dataclass
class _Place:
    """A feature as it will be: the tasks that stay in any case, and those that were handed over for it."""

    doc: FeatureDoc
    parent: str
    stay: list[TaskDoc] = field(default_factory=list)
    given: list[TaskDoc] = field(default_factory=list)

    @property
    def tasks(self) -> list[TaskDoc]:
        """All of them, in order."""
        tasks = {task.key: task for task in (*self.stay, *self.given)}
        order = _in_order([task.key for task in self.doc.tasks], list(tasks), [task.key for task in self.given])
        return [tasks[key] for key in order]


class _Revising:
    def __init__(
        self,
        arguments: RevisePlanArguments,
        before: PlanDoc,
        states: Mapping[str, TaskState],
        within: str | None,
    ) -> None:
        self.arguments = arguments
        self.before = before
        self.within = within
        self.problems: list[Problem] = []
        self.begun = {key for key, state in states.items() if state.started}
        self.failed = {key for key, state in states.items() if state.status is TaskStatus.FAILED}
        self.within_reach = {
            placed.task.key
            for placed in before.placed_tasks
            if within is None or within in (feature.key for feature in placed.within)
        }
        self.dropped = self._dropped()
        #: By a failed or dropped task's key, that of the task which takes its place.
        self.successors: dict[str, str] = {}
        self._features = {*before.features_by_key, *(feature.key for feature in arguments.features if feature.key)}
        self._used = {*before.tasks, *self._features}
        self._used |= {task.key for feature in arguments.features for task in feature.tasks}

    def document(self) -> PlanDoc:
        places = self._places_kept()
        given: dict[str, TaskDoc] = {}
        named: list[str] = []
        previous = ""
        for feature in self.arguments.features:
            place = self._place(feature, places)
            named.append(place.doc.key)
            for task in feature.tasks:
                doc = self._task(task, previous)
                if doc is None:
                    continue
                if doc.key in given:
                    self._problem(doc.key, "duplicate_key", f"task {doc.key} is in features twice", "name it once")
                    continue
                given[doc.key] = doc
                place.given.append(doc)
                previous = doc.key
        self._named_require(given)
        order = _in_order(list(self.before.features_by_key), list(places), list(dict.fromkeys(named)))
        for place in places.values():
            place.stay = [self._succeeded(task) for task in place.stay]
            place.given = [self._succeeded(task) for task in place.given]
        features = tuple(self._nested("", order, places, frozenset()))
        summary = self.arguments.summary or self.before.summary
        document = self.before.model_copy(update={"summary": summary, "features": features})
        if lost := sorted(self._placed(places) - set(document.tasks)):
            self._problem(
                lost[0], "cycle", f"features that {lost[0]} is in are parts of each other", "leave parent out"
            )
        return document

    # --- What is there --------------------------------------------------------------------------------------------
    def _dropped(self) -> set[str]:
        """The tasks that are to be done without; of a feature, those in it that have not started."""
        dropped: set[str] = set()
        for key in self.arguments.drop:
            if key in self.before.features_by_key:
                inside = {
                    placed.task.key
                    for placed in self.before.placed_tasks
                    if key in (feature.key for feature in placed.within)
                }
                dropped |= (inside - self.begun) & self.within_reach
            elif key not in self.within_reach:
                self._problem("drop", "unknown_task", f"drop names {key}, and the plan has no such task", "")
            elif key in self.begun - self.failed:
                self._problem(key, "started", f"task {key} was begun and has not failed: it can't be dropped", "")
            else:
                dropped.add(key)
        return dropped

    def _places_kept(self) -> dict[str, _Place]:
        """The features as they are, each with those of its tasks that stay whatever is handed over."""
        places: dict[str, _Place] = {}
        for placed in self.before.placed_features:
            parent = placed.within[-1].key if placed.within else ""
            places[placed.feature.key] = place = _Place(placed.feature, parent)
            for task in placed.feature.tasks:
                if task.key in self.dropped:
                    place.stay.append(task.model_copy(update={"skipped": True}))
                elif self._stays(task):
                    place.stay.append(task)
        return places

    def _stays(self, task: TaskDoc) -> bool:
        """Whether the task is no matter of the revision: it was begun, is past, or is done without and not named."""
        named = any(task.key == each.key for feature in self.arguments.features for each in feature.tasks)
        return task.key in self.begun or task.key not in self.within_reach or (task.skipped and not named)

    def _named_require(self, given: Mapping[str, TaskDoc]) -> None:
        left = [
            key
            for key, task in self.before.tasks.items()
            if key in self.within_reach - self.begun - self.dropped and key not in given and not task.skipped
        ]
        if left:
            message = f"of what has not started, {', '.join(left)} is neither in features nor in drop"
            self.problems.append(Problem("features", "left_out", message, _NAME_ALL))
        for key in sorted(self.dropped & set(given)):
            self._problem(key, "kept_and_dropped", f"task {key} is in features and in drop", "leave it out of one")

    # --- What is handed over --------------------------------------------------------------------------------------
    def _place(self, given: RevisedFeatureArguments, places: dict[str, _Place]) -> _Place:
        if self.within is not None and self.within in places:
            return places[self.within]
        place = places.get(given.key)
        fields = {
            name: getattr(given, name)
            for name in ("title", "description", "priority", "effort", "depends_on")
            if name in given.model_fields_set and getattr(given, name) != ""
        }
        if place is None:
            key = given.key or self._key_next("F")
            if not given.title:
                self._problem(key, "no_title", f"the plan has no feature {key}, and a new one needs a title", "")
            place = places[key] = _Place(FeatureDoc(key=key, **{"title": key, **fields}), given.parent)
        else:
            place.doc = FeatureDoc.model_validate({**place.doc.model_dump(), **fields})
            if given.parent:
                place.parent = given.parent
        if place.parent and (place.parent == place.doc.key or place.parent not in self._features):
            self._problem(place.doc.key, "no_parent", f"there is no feature {place.parent} for it to be a part of", "")
            place.parent = ""
        return place

    def _task(self, given: RevisedTaskArguments, previous: str) -> TaskDoc | None:
        """The task as it will be; None for one that stays as it is, wherever it was named."""
        former = self.before.tasks.get(given.key)
        if former is not None and given.key not in self.within_reach:
            self._problem(given.key, "started", f"task {given.key} is past: leave it out", "")
            return None
        if former is None:
            return self._task_new(given, previous)
        changed = self._changes(given)
        if former.key in self.begun:
            if any(getattr(former, name) != value for name, value in changed.items()):
                message = f"task {former.key} was begun: it stays as it is"
                self._problem(former.key, "started", message, "add a task of its own for what is to be done otherwise")
            return None
        if "depends_on" in given.model_fields_set:
            changed["depends_on"] = self._needs(given.depends_on, previous)
        return TaskDoc.model_validate({**former.model_dump(), **changed, "skipped": False})

    def _task_new(self, given: RevisedTaskArguments, previous: str) -> TaskDoc:
        key = given.key or self._key_next("T")
        if not given.title:
            known = ", ".join(name for name in self.before.tasks if name in self.within_reach - self.begun)
            message = f"there is no task {key} to be kept, and a new one needs a title"
            self._problem(key, "no_title", message, f"not started are {known}" if known else "")
        if given.replaces:
            self._replace(given.replaces, key)
        needs = self._needs(given.depends_on if "depends_on" in given.model_fields_set else (PREVIOUS,), previous)
        fields = self._changes(given)
        fields |= {"key": key, "title": given.title or key}
        fields["depends_on"] = tuple(each for each in needs if each != given.replaces)
        return TaskDoc.model_validate(fields)

    def _changes(self, given: RevisedTaskArguments) -> dict[str, object]:
        """What was said of the task, by field; who says nothing of one may say so by leaving it empty."""
        changed = {name: getattr(given, name) for name in _FILLED if getattr(given, name)}
        changed |= {name: getattr(given, name) for name in ("type", "agent_type") if name in given.model_fields_set}
        if given.checks:
            changed["checks"] = tuple(CheckDoc(command=check.command, name=check.name) for check in given.checks)
        return changed

    def _needs(self, named: tuple[str, ...], previous: str) -> tuple[str, ...]:
        needs = (previous if key == PREVIOUS else key for key in named)
        return tuple(dict.fromkeys(key for key in needs if key))

    def _replace(self, former: str, key: str) -> None:
        if former not in self.within_reach:
            self._problem(key, "unknown_task", f"{key} replaces {former}, and the plan has no such task", "")
        elif former not in self.failed and former not in self.dropped:
            message = f"{key} replaces {former}, which has not failed"
            self._problem(key, "not_failed", message, "a task that has not started can be changed, or dropped")
        else:
            self.successors[former] = key

    def _succeeded(self, task: TaskDoc) -> TaskDoc:
        """The task, on what takes the place of tasks that failed; of such a one, that it is done without."""
        if task.key in self.successors:
            return task.model_copy(update={"skipped": True})
        if task.key in self.begun or not self.successors.keys() & set(task.depends_on):
            return task
        needs = (self.successors.get(key, key) for key in task.depends_on)
        return task.model_copy(update={"depends_on": tuple(dict.fromkeys(key for key in needs if key != task.key))})

    # --- The whole ------------------------------------------------------------------------------------------------
    def _nested(
        self, parent: str, order: list[str], places: Mapping[str, _Place], above: frozenset[str]
    ) -> Iterator[FeatureDoc]:
        """The features within one, each with its own; one that has lost all of its tasks is left out."""
        for key in order:
            place = places[key]
            if place.parent != parent or key in above:
                continue
            inner = tuple(self._nested(key, order, places, above | {key}))
            emptied = place.doc.tasks or place.doc.features
            if place.tasks or inner or not emptied:
                yield place.doc.model_copy(update={"tasks": tuple(place.tasks), "features": inner})

    def _placed(self, places: Mapping[str, _Place]) -> set[str]:
        return {task.key for place in places.values() for task in place.tasks}

    def _key_next(self, prefix: str) -> str:
        number = 1
        while f"{prefix}{number}" in self._used:
            number += 1
        self._used.add(f"{prefix}{number}")
        return f"{prefix}{number}"

    def _problem(self, key: str, code: str, message: str, hint: str) -> None:
        self.problems.append(Problem(f"tasks.{key}" if key in self.before.tasks else key, code, message, hint))


def _in_order(former: list[str], every: list[str], given: list[str]) -> list[str]:
    """All the keys: those that were handed over in that order, and as far as that goes each where it was before."""
    place = {key: number for number, key in enumerate(former)}
    order = [key for key in every if key not in given]
    at = 0 if given and given[0] in place else len(order)
    for key in given:
        if key in place:
            before = [number for number, each in enumerate(order) if place.get(each, -1) < place[key]]
            at = max(at, before[-1] + 1 if before else 0)
        order.insert(at, key)
        at += 1
    return order
