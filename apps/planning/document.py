"""A plan as one value: what it says, apart from how far it is carried out.

Whatever makes, checks, changes, compares or draws a plan works on this. The rows of features and tasks are its newest
version, spread out to be queried; every version is kept as such a value (``PlanVersion.document``).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apps.core.errors import InvalidInput
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskType

TITLE_LENGTH, TEXT_LENGTH, COMMAND_LENGTH, PATH_LENGTH = 300, 50_000, 2_000, 1_000
#: What one plan may hold.
MAX_FEATURES, MAX_TASKS, MAX_DEPTH, MAX_CHECKS, MAX_FILES = 50, 200, 10, 20, 100

#: By what a plan names its features and tasks; unique within it, features and tasks together.
KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Key = Annotated[str, Field(pattern=KEY_PATTERN)]
Title = Annotated[str, Field(min_length=1, max_length=TITLE_LENGTH)]
Text = Annotated[str, Field(max_length=TEXT_LENGTH)]
Path = Annotated[str, Field(min_length=1, max_length=PATH_LENGTH)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy without what the original had worked out: that is of its own content."""
        copied = super().model_copy(update=update, deep=deep)
        for name in set(copied.__dict__) - set(type(self).model_fields):
            del copied.__dict__[name]
        return copied


class CheckDoc(_Frozen):
    """A command that tells whether a task is done: exit code 0 on a clean checkout of its commit."""

    command: str = Field(min_length=1, max_length=COMMAND_LENGTH)
    #: What it shows, for people.
    name: str = Field(default="", max_length=200)


class TaskDoc(_Frozen):
    """One piece of work for one agent, checked and committed by itself."""

    key: Key
    title: Title
    instructions: Text = ""
    type: TaskType = TaskType.CODE
    agent_type: TaskAgent = TaskAgent.CODER
    #: Keys of tasks that have to be done before it starts.
    depends_on: tuple[Key, ...] = ()
    #: Paths that it is expected to touch, and those that it makes.
    files: tuple[Path, ...] = Field(default=(), max_length=MAX_FILES)
    creates: tuple[Path, ...] = Field(default=(), max_length=MAX_FILES)
    checks: tuple[CheckDoc, ...] = Field(default=(), max_length=MAX_CHECKS)
    #: It is done without.
    skipped: bool = False
    #: Why it must not start yet; empty: nothing holds it.
    blocked_reason: str = Field(default="", max_length=2_000)


class FeatureDoc(_Frozen):
    """A part of the plan that is worth naming: its own tasks, and features within it."""

    key: Key
    title: Title
    description: Text = ""
    priority: Priority = Priority.NORMAL
    effort: Effort = Effort.MEDIUM
    #: Keys of features all of whose tasks have to be done before any of its own starts.
    depends_on: tuple[Key, ...] = ()
    blocked_reason: str = Field(default="", max_length=2_000)
    tasks: tuple[TaskDoc, ...] = ()
    features: tuple[FeatureDoc, ...] = ()


@dataclass(frozen=True)
class PlacedFeature:
    """A feature and the features that it is in, the outermost first."""

    feature: FeatureDoc
    within: tuple[FeatureDoc, ...]


@dataclass(frozen=True)
class PlacedTask:
    """A task and the features that it is in, the outermost first."""

    task: TaskDoc
    within: tuple[FeatureDoc, ...]

    @property
    def feature(self) -> FeatureDoc:
        return self.within[-1]


class PlanDoc(_Frozen):
    """A whole plan. Nothing is checked here but shapes; :mod:`apps.planning.checking` finds what doesn't hold."""

    summary: str = Field(min_length=1, max_length=10_000)
    intent: Intent = Intent.FEATURE
    features: tuple[FeatureDoc, ...] = ()

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> PlanDoc:
        """A plan as it was stored or sent. Raises InvalidInput, which names the member."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{where}: {first['msg']}", next_step="see docs/reference/plans.md") from None

    def as_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = self.model_dump(mode="json")
        return plain

    @cached_property
    def placed_features(self) -> tuple[PlacedFeature, ...]:
        """Every feature, each before those within it."""
        return tuple(_features(self.features, ()))

    @cached_property
    def placed_tasks(self) -> tuple[PlacedTask, ...]:
        """Every task in the plan's order: a feature's own before those of the features within it."""
        return tuple(
            PlacedTask(task, (*placed.within, placed.feature))
            for placed in self.placed_features
            for task in placed.feature.tasks
        )

    @cached_property
    def tasks(self) -> dict[str, TaskDoc]:
        """The tasks by key, in order. Of a key that occurs twice, the last."""
        return {placed.task.key: placed.task for placed in self.placed_tasks}

    @cached_property
    def features_by_key(self) -> dict[str, FeatureDoc]:
        return {placed.feature.key: placed.feature for placed in self.placed_features}

    @cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """By task, the tasks that it depends on directly: by its own word, and by those of the features it is in.

        Keys that name no task or feature are left out; a feature that depends on one that it is in, or that is in it,
        adds nothing.
        """
        within: dict[str, set[str]] = {}
        for placed in self.placed_tasks:
            for feature in placed.within:
                within.setdefault(feature.key, set()).add(placed.task.key)
        order = {key: place for place, key in enumerate(self.tasks)}
        needs: dict[str, tuple[str, ...]] = {}
        for placed in self.placed_tasks:
            own = placed.task.key
            found = {key for key in placed.task.depends_on if key in self.tasks}
            for feature in placed.within:
                siblings = within[feature.key]
                for key in feature.depends_on:
                    others = within.get(key, set())
                    # A feature within the other, or around it, can't wait for itself.
                    if not siblings <= others and not others <= siblings:
                        found |= others - siblings
            found.discard(own)
            needs[own] = tuple(sorted(found, key=order.__getitem__))
        return needs

    def tasks_map(self, change: Callable[[TaskDoc], TaskDoc | None]) -> PlanDoc:
        """The plan with each task as ``change`` makes it; None leaves it out."""
        return self.model_copy(update={"features": tuple(_mapped(feature, change) for feature in self.features)})


def feature_id_of(plan_id: uuid.UUID, key: str) -> uuid.UUID:
    """The id of a feature's row, when the plan makes it."""
    return uuid.uuid5(plan_id, f"feature:{key}")


def task_id_of(plan_id: uuid.UUID, key: str) -> uuid.UUID:
    """The id of a task's row, when the plan makes it."""
    return uuid.uuid5(plan_id, f"task:{key}")


def follow_up_key(turn: int) -> str:
    """The key of the feature that stands for a session's follow-up, and of its task."""
    return f"follow-up-{turn}"


def _features(features: tuple[FeatureDoc, ...], within: tuple[FeatureDoc, ...]) -> Iterator[PlacedFeature]:
    for feature in features:
        yield PlacedFeature(feature, within)
        yield from _features(feature.features, (*within, feature))


def _mapped(feature: FeatureDoc, change: Callable[[TaskDoc], TaskDoc | None]) -> FeatureDoc:
    changed = (change(task) for task in feature.tasks)
    return feature.model_copy(
        update={
            "tasks": tuple(task for task in changed if task is not None),
            "features": tuple(_mapped(inner, change) for inner in feature.features),
        }
    )
