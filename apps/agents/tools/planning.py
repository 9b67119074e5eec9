"""What a planner hands over, as a model writes it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from pydantic import Field

from apps.agents.tools.base import Arguments
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskType

#: In place of a task's dependencies: the task before it in the plan, as where nothing is said of them.
PREVIOUS = "@previous"


class CheckArguments(Arguments):
    command: str = Field(min_length=1, max_length=2000, description="A shell command; exit code 0: it holds.")
    name: str = Field(default="", max_length=200, description="What it shows, in a few words.")


class TaskArguments(Arguments):
    title: str = Field(min_length=1, max_length=300)
    instructions: str = Field(default="", description="What to do, where, and how to tell that it is done.")
    key: str = Field(default="", description="By what other tasks name it, such as T1; left out: T1, T2, … in order.")
    type: TaskType = TaskType.CODE
    agent_type: TaskAgent = Field(
        default=TaskAgent.CODER, description="A researcher or reviewer only reads and reports; a coder changes files."
    )
    depends_on: tuple[str, ...] = Field(
        default=(PREVIOUS,),
        description="Keys of the tasks that must be done first; [] for none. Left out: the task before it.",
    )
    files: tuple[str, ...] = Field(default=(), description="Files that it will likely touch; they have to exist.")
    creates: tuple[str, ...] = Field(default=(), description="Files that it makes.")
    checks: tuple[CheckArguments, ...] = Field(
        default=(), description="Commands that show that it is done, run beside the project's own tests."
    )


class FeatureArguments(Arguments):
    title: str = Field(min_length=1, max_length=300)
    description: str = ""
    key: str = Field(default="", description="By what other features name it; left out: F1, F2, … in order.")
    parent: str = Field(default="", description="Key of the feature that it is a part of; that one stands before it.")
    priority: Priority = Priority.NORMAL
    effort: Effort = Effort.MEDIUM
    depends_on: tuple[str, ...] = Field(
        default=(), description="Keys of features all of whose tasks must be done first."
    )
    tasks: tuple[TaskArguments, ...] = Field(default=(), max_length=50)


class SubmitPlanArguments(Arguments):
    summary: str = Field(min_length=1, description="The plan in a sentence or two.")
    intent: Intent = Field(default=Intent.FEATURE, description="What the goal asks for; a question is answered.")
    features: tuple[FeatureArguments, ...] = Field(min_length=1, max_length=50)


def plan_of(arguments: SubmitPlanArguments, *, taken: Collection[str] = ()) -> PlanDoc:
    """The plan that was handed over, with keys where none were given and features put where they belong.

    ``taken`` are keys that are not given to tasks without one. What has several tasks is no small edit. Raises
    pydantic's ValidationError where a key or a text is none. Whether the plan holds is not looked at.
    """
    task_keys = _keys_free("T", arguments, taken)
    previous = ""
    made: list[tuple[str, FeatureDoc]] = []
    for feature, key in zip(arguments.features, feature_keys(arguments, taken=taken), strict=True):
        tasks = []
        for task in feature.tasks:
            task_key = task.key or next(task_keys)
            needs = [previous if needed == PREVIOUS else needed for needed in task.depends_on]
            if PREVIOUS in task.depends_on and not previous:
                needs.remove(previous)
            tasks.append(
                TaskDoc(
                    key=task_key,
                    title=task.title,
                    instructions=task.instructions,
                    type=task.type,
                    agent_type=task.agent_type,
                    depends_on=tuple(dict.fromkeys(needs)),
                    files=task.files,
                    creates=task.creates,
                    checks=tuple(CheckDoc(command=check.command, name=check.name) for check in task.checks),
                )
            )
            previous = task_key
        doc = FeatureDoc(
            key=key,
            title=feature.title,
            description=feature.description,
            priority=feature.priority,
            effort=feature.effort,
            depends_on=feature.depends_on,
            tasks=tuple(tasks),
        )
        made.append((feature.parent, doc))
    intent = arguments.intent
    if intent is Intent.SMALL_EDIT and sum(len(doc.tasks) for _, doc in made) > 1:
        intent = Intent.FEATURE
    return PlanDoc(summary=arguments.summary, intent=intent, features=_nested(made))


def feature_keys(arguments: SubmitPlanArguments, *, taken: Collection[str] = ()) -> list[str]:
    """The key of each feature that was handed over, in their order: its own, or the next free one."""
    free = _keys_free("F", arguments, taken)
    return [feature.key or next(free) for feature in arguments.features]


def _keys_free(prefix: str, arguments: SubmitPlanArguments, taken: Collection[str]) -> Iterator[str]:
    used = {each.key for each in arguments.features} | {task.key for each in arguments.features for task in each.tasks}
    used |= set(taken)
    return (key for number in itertools.count(1) if (key := f"{prefix}{number}") not in used)


def _nested(made: list[tuple[str, FeatureDoc]]) -> tuple[FeatureDoc, ...]:
    """The features within those that they name as their parent; of one that there isn't, at the top."""
    known = {doc.key for _, doc in made}

    def within(parent: str, above: frozenset[str]) -> tuple[FeatureDoc, ...]:
        return tuple(
            doc.model_copy(update={"features": within(doc.key, above | {doc.key})})
            for named, doc in made
            if (named if named in known and named != doc.key else "") == parent and doc.key not in above
        )

    return within("", frozenset())
