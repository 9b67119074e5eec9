"""What can be done to a plan's document, as values: for people's edits and for agents that revise a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from apps.core.errors import InvalidInput
from apps.planning.document import (
    MAX_CHECKS,
    MAX_FILES,
    MAX_TASKS,
    CheckDoc,
    Key,
    Path,
    Text,
    Title,
)
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskType

#: Operations that are taken at once.
MAX_OPERATIONS = 500

Reason = Annotated[str, Field(min_length=1, max_length=2_000)]
Keys = tuple[Key, ...]
Paths = Annotated[tuple[Path, ...], Field(max_length=MAX_FILES)]
Checks = Annotated[tuple[CheckDoc, ...], Field(max_length=MAX_CHECKS)]
#: A key, or empty where none is given.
OptionalKey = Key | Literal[""]


class _Operation(BaseModel):
    """What isn't given stays as it is; null is no value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def given(self, *without: str) -> dict[str, Any]:
        """The members that were given, but for those that say what is done and to what."""
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name in self.model_fields_set - {"op", *without}
        }


class _Changing(_Operation):
    @model_validator(mode="after")
    def _says_something(self) -> _Changing:
        if not self.given("key"):
            raise ValueError("it changes nothing: name at least one member to change")
        return self


class _Placed(_Operation):
    #: The key of the one that it is put in front of, or behind; at most one of these.
    before: OptionalKey = ""
    after: OptionalKey = ""

    @model_validator(mode="after")
    def _one_place(self) -> _Placed:
        if self.before and self.after:
            raise ValueError("give before or after, not both")
        return self


class UpdatePlan(_Changing):
    op: Literal["update_plan"] = "update_plan"
    summary: str = Field(default="", min_length=1, max_length=10_000)
    intent: Intent = Intent.FEATURE


class AddFeature(_Placed):
    op: Literal["add_feature"] = "add_feature"
    title: Title
    #: Left out: the next free one of F1, F2, …
    key: OptionalKey = ""
    #: The feature that it becomes a part of; empty: none.
    parent: OptionalKey = ""
    description: Text = ""
    priority: Priority = Priority.NORMAL
    effort: Effort = Effort.MEDIUM
    depends_on: Keys = ()
    blocked_reason: str = Field(default="", max_length=2_000)


class UpdateFeature(_Changing):
    op: Literal["update_feature"] = "update_feature"
    key: Key
    title: Title = ""
    description: Text = ""
    priority: Priority = Priority.NORMAL
    effort: Effort = Effort.MEDIUM
    depends_on: Keys = ()
    blocked_reason: str = Field(default="", max_length=2_000)


class RemoveFeature(_Operation):
    """With all that is in it."""

    op: Literal["remove_feature"] = "remove_feature"
    key: Key
    #: What depends on it, or on a task in it, ceases to.
    cascade: bool = False


class MoveFeature(_Placed):
    op: Literal["move_feature"] = "move_feature"
    key: Key
    #: Given and empty: it is a part of none.
    parent: OptionalKey = ""

    @model_validator(mode="after")
    def _somewhere(self) -> MoveFeature:
        if not self.given("key"):
            raise ValueError("say where to: parent, before or after")
        return self


class AddTask(_Placed):
    op: Literal["add_task"] = "add_task"
    title: Title
    #: Left out: the next free one of T1, T2, …
    key: OptionalKey = ""
    #: Needn't be given with ``before`` or ``after``, nor where the plan has one feature alone.
    feature: OptionalKey = ""
    instructions: Text = ""
    type: TaskType = TaskType.CODE
    agent_type: TaskAgent = TaskAgent.CODER
    depends_on: Keys = ()
    files: Paths = ()
    creates: Paths = ()
    checks: Checks = ()
    skipped: bool = False
    blocked_reason: str = Field(default="", max_length=2_000)


class UpdateTask(_Changing):
    op: Literal["update_task"] = "update_task"
    key: Key
    title: Title = ""
    instructions: Text = ""
    type: TaskType = TaskType.CODE
    agent_type: TaskAgent = TaskAgent.CODER
    depends_on: Keys = ()
    files: Paths = ()
    creates: Paths = ()
    checks: Checks = ()
    skipped: bool = False
    blocked_reason: str = Field(default="", max_length=2_000)


class RemoveTask(_Operation):
    op: Literal["remove_task"] = "remove_task"
    key: Key
    #: What depends on it ceases to.
    cascade: bool = False


class MoveTask(_Placed):
    op: Literal["move_task"] = "move_task"
    key: Key
    feature: OptionalKey = ""

    @model_validator(mode="after")
    def _somewhere(self) -> MoveTask:
        if not (self.feature or self.before or self.after):
            raise ValueError("say where to: feature, before or after")
        return self


class SkipTask(_Operation):
    op: Literal["skip_task"] = "skip_task"
    key: Key


class UnskipTask(_Operation):
    op: Literal["unskip_task"] = "unskip_task"
    key: Key


class Hold(_Operation):
    """A feature or a task must not start until it is released."""

    op: Literal["hold"] = "hold"
    key: Key
    reason: Reason


class Release(_Operation):
    op: Literal["release"] = "release"
    key: Key


class SplitPart(_Operation):
    """One of the tasks that a task is split into."""

    title: Title
    #: Left out: the next free one of T1, T2, … It may be that of the task which is split.
    key: OptionalKey = ""
    instructions: Text = ""
    #: Keys of other parts or of tasks; left out: the part before it.
    depends_on: Keys = ()
    #: Left out: those of the task that is split.
    type: TaskType = TaskType.CODE
    agent_type: TaskAgent = TaskAgent.CODER
    files: Paths = ()
    #: Left out: those of the task that is split for the first part, none for the others.
    creates: Paths = ()
    #: Left out: those of the task that is split for the last part, none for the others.
    checks: Checks = ()


class SplitTask(_Operation):
    op: Literal["split_task"] = "split_task"
    key: Key
    parts: tuple[SplitPart, ...] = Field(min_length=2, max_length=MAX_TASKS)


Operation = Annotated[
    UpdatePlan
    | AddFeature
    | UpdateFeature
    | RemoveFeature
    | MoveFeature
    | AddTask
    | UpdateTask
    | RemoveTask
    | MoveTask
    | SkipTask
    | UnskipTask
    | Hold
    | Release
    | SplitTask,
    Field(discriminator="op"),
]
_ADAPTER: TypeAdapter[Operation] = TypeAdapter(Operation)


def operations_read(data: Sequence[object]) -> tuple[Operation, ...]:
    """Operations as they were sent. Raises InvalidInput, which names the operation and the member."""
    if len(data) > MAX_OPERATIONS:
        raise InvalidInput(f"at most {MAX_OPERATIONS} operations are taken at once, these are {len(data)}")
    return tuple(_read(number, each) for number, each in enumerate(data))


def _read(number: int, data: object) -> Operation:
    if not isinstance(data, Mapping):
        raise InvalidInput(f"operations[{number}]: it is no object", next_step="see docs/reference/plans.md")
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        # The first part names the kind of operation, the last may name an alternative of a type.
        where = ".".join(
            str(part) for part in first["loc"][1:] if not str(part).startswith(("constrained-", "literal["))
        )
        said = first["msg"].removeprefix("Value error, ")
        place = f"operations[{number}]{'.' if where else ''}{where}"
        raise InvalidInput(f"{place}: {said}", next_step="see docs/reference/plans.md") from None
