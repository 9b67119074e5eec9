"""Judging a planner's answer: the one way from what a model said to a plan that holds, or to what it is told instead.

A session goes this way with the arguments of ``submit_plan`` and of a revision, ``archon bench plan`` with recorded
answers. A node does it like this::

    read = plan_read(arguments)
    if isinstance(read, PlanDoc):
        there = await programs_look_up(workspace, programs_named(read))
        grounding = RepositoryGrounding(…, program_exists=lambda name: there.get(name, True))
        problems = await asyncio.to_thread(plan_judge, read, grounding, before=…, states=…)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from apps.agents.tools.plan_answers import answer_open
from apps.agents.tools.planning import FeatureArguments, SubmitPlanArguments, feature_keys, plan_of
from apps.planning.checking import plan_problems
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.paths import path_clean, path_fault
from apps.planning.problems import Grounding, Problem
from apps.planning.protection import revision_problems
from apps.planning.types import Intent, TaskState

#: Of so many problems a model is told at a time.
TOLD = 20
_CODES = {
    "missing": "missing_member",
    "extra_forbidden": "unknown_member",
    "enum": "wrong_value",
    "literal_error": "wrong_value",
    "string_pattern_mismatch": "bad_key",
    "string_too_short": "blank",
    "string_too_long": "too_large",
    "too_long": "too_large",
    "too_short": "no_task",
    "string_unicode": "bad_text",
    "recursion_loop": "too_large",
}
#: What is said in other words than pydantic's, and what to do about it.
_SAID = {
    "missing": ("{where} is missing", "give it"),
    "extra_forbidden": ("there is no {where}", "leave it out, or write its name as it is in submit_plan"),
    "too_short": ("{where} needs at least one item", "give a feature with a task that says what to do"),
    "string_too_short": ("{where} is blank", "say what it is about"),
    "string_pattern_mismatch": (
        "{where} can't be a key",
        "a key has letters, digits, dots, dashes and underscores, begins with a letter or digit, and has at most 64",
    ),
    "model_type": ("{where} has to be an object", ""),
    "tuple_type": ("{where} has to be a list", ""),
    "string_type": ("{where} has to be a text", ""),
    "enum": ("{where}: {said}", "choose one of these"),
}


def plan_read(answer: object, *, taken: Collection[str] = ()) -> PlanDoc | list[Problem]:
    """The plan that an answer hands over, or why it is none. Whether the plan holds is not looked at.

    ``answer``: the arguments of ``submit_plan``, a text that holds them as JSON, or them as they were read. What says
    the same in another way is made one: blanks around texts, ``./`` before paths, the same dependency named twice.
    ``taken`` are keys that aren't given to tasks and features without one.
    """
    if isinstance(answer, SubmitPlanArguments):
        arguments = answer
    else:
        opened = answer_open(answer)
        if opened.arguments is None:
            return list(opened.problems)
        try:
            arguments = SubmitPlanArguments.model_validate(opened.arguments)
        except ValidationError as error:
            return _schema_problems(error)
    if problems := list(_parents(arguments, feature_keys(arguments, taken=taken))):
        return problems
    try:
        return _tidy(plan_of(arguments, taken=taken))
    except ValidationError as error:
        return list(_member_problems(arguments)) or _schema_problems(error)


def plan_judge(
    document: PlanDoc,
    grounding: Grounding | None,
    *,
    before: PlanDoc | None = None,
    states: Mapping[str, TaskState] | None = None,
) -> list[Problem]:
    """All that keeps the plan from being carried out; none: it holds. Takes a while: call it in a thread.

    ``before`` and ``states`` are of a revision: the plan that it follows, and how far that one's tasks are.
    """
    states = states or {}
    begun = {key for key, state in states.items() if state.started}
    problems = plan_problems(document, grounding, begun=begun)
    if any(problem.code == "too_large" for problem in problems):
        return problems
    if before is None:
        problems += _empty_features(document, problems)
    else:
        problems += revision_problems(before, document, states)
    return problems + list(_duplicates(document, begun))


def unchanged_problems(document: PlanDoc, before: PlanDoc) -> list[Problem]:
    """Why what was to be another version of a plan is none."""
    if document != before:
        return []
    message = "this is the plan as it is, which is to be made otherwise"
    return [Problem("", "unchanged", message, "change what was asked for")]


def intent_problems(document: PlanDoc) -> list[Problem]:
    """Why a plan can't be what the goal gets, by the planner's own word."""
    if document.intent is not Intent.QUESTION:
        return []
    message = "the goal is said to be a question, which gets an answer and no plan"
    return [Problem("intent", "question", message, "call answer, or say what kind of change the plan is for")]


def problems_text(problems: Sequence[Problem]) -> str:
    """What a model is told of a plan that doesn't hold."""
    lines = [f"- {problem.where}: {problem}" for problem in problems[:TOLD]]
    if len(problems) > TOLD:
        lines.append(f"- and {len(problems) - TOLD} more, told once these are mended")
    return "\n".join(["The plan can't be carried out as it is:", *lines, "Mend this, and hand over the whole plan."])


# --- What was handed over ---------------------------------------------------------------------------------------------
def _schema_problems(error: ValidationError, *, within: str = "") -> list[Problem]:
    found = error.errors(include_url=False, include_input=False)
    problems = []
    for each in found:
        place, kind = each["loc"], each["type"]
        if kind == "too_short" and any(other["loc"][: len(place)] == place and other is not each for other in found):
            # What is wrong itself was left out before it was counted.
            continue
        where = ".".join([*([within] if within else []), *(str(part) for part in place)]) or "answer"
        message, hint = _SAID.get(kind, ("{where}: {said}", ""))
        told = message.format(where=where, said=each["msg"])
        if kind == "extra_forbidden" and place[-1] == "features":
            hint = "features are given in one list; one within another names that as its parent"
        code = _blank_code(place) if kind == "string_too_short" else _CODES.get(kind, "wrong_type")
        problems.append(Problem(where, code, told, hint))
    return problems


def _blank_code(place: Sequence[int | str]) -> str:
    """What is told of an empty text is what is told of a blank one."""
    if place[-1] == "command":
        return "check_cannot_run"
    return "bad_path" if len(place) > 1 and place[-2] in ("files", "creates") else _CODES["string_too_short"]


def _parents(arguments: SubmitPlanArguments, keys: Sequence[str]) -> Iterator[Problem]:
    """Features that can't be put where they say that they belong; ``keys`` are theirs, in order."""
    parents = {key: feature.parent for key, feature in zip(keys, arguments.features, strict=True)}
    for number, (key, feature) in enumerate(zip(keys, arguments.features, strict=True)):
        where = f"features.{number}.parent"
        if not feature.parent:
            continue
        if feature.parent not in parents:
            hint = f"known are {', '.join(list(parents)[:20])}"
            message = f"{key} is to be a part of {feature.parent}, and the plan has no such feature"
            yield Problem(where, "missing_dependency", message, hint)
            continue
        seen, above = [key], feature.parent
        while above and above not in seen:
            seen.append(above)
            above = parents.get(above, "")
        if above and above == key and key == min(seen):
            shown = ", which is a part of ".join([*seen, above])
            yield Problem(where, "cycle", f"{shown}", "leave one of these parents out")


def _member_problems(arguments: SubmitPlanArguments) -> Iterator[Problem]:
    """What a plan doesn't take and the tool's arguments do, each with its place: keys and lengths."""
    whole = arguments.model_copy(update={"features": (FeatureArguments(title="t"),)})
    yield from _tried(whole, "")
    for number, feature in enumerate(arguments.features):
        alone = feature.model_copy(update={"tasks": (), "parent": ""})
        yield from _tried(whole.model_copy(update={"features": (alone,)}), f"features.{number}")
        for place, task in enumerate(feature.tasks):
            bare = FeatureArguments(title="t").model_copy(update={"tasks": (task,)})
            within = f"features.{number}.tasks.{place}"
            yield from _tried(whole.model_copy(update={"features": (bare,)}), within)


def _tried(arguments: SubmitPlanArguments, within: str) -> list[Problem]:
    try:
        plan_of(arguments)
    except ValidationError as error:
        return _schema_problems(error, within=within)
    return []


def _tidy(document: PlanDoc) -> PlanDoc:
    features = tuple(_feature_tidy(feature) for feature in document.features)
    return document.model_copy(update={"summary": _text(document.summary), "features": features})


def _feature_tidy(feature: FeatureDoc) -> FeatureDoc:
    return feature.model_copy(
        update={
            "title": _line(feature.title),
            "description": _text(feature.description),
            "depends_on": tuple(dict.fromkeys(feature.depends_on)),
            "tasks": tuple(_task_tidy(task) for task in feature.tasks),
            "features": tuple(_feature_tidy(inner) for inner in feature.features),
        }
    )


def _task_tidy(task: TaskDoc) -> TaskDoc:
    return task.model_copy(
        update={
            "title": _line(task.title),
            "instructions": _text(task.instructions),
            "files": _paths(task.files),
            "creates": _paths(task.creates),
            "checks": tuple(
                check.model_copy(update={"command": _text(check.command), "name": _line(check.name)})
                for check in dict.fromkeys(task.checks)
            ),
        }
    )


def _line(text: str) -> str:
    """A text of one line; one of blanks alone stays, to be told."""
    return " ".join(text.split()) or text


def _text(text: str) -> str:
    return text.replace("\r\n", "\n").strip() or text


def _paths(paths: Sequence[str]) -> tuple[str, ...]:
    # What makes a folder says so by the slash at its end.
    tidied = (
        (
            path_clean(path) + ("/" if path.rstrip().endswith("/") and path_clean(path) != "." else "")
            if path_fault(path) is None
            else path
        )
        for path in paths
    )
    return tuple(dict.fromkeys(tidied))


# --- What is asked of a planner beyond a plan's own rules -------------------------------------------------------------
def _empty_features(document: PlanDoc, told: Sequence[Problem]) -> Iterator[Problem]:
    """Features that come to nothing. A person may plan one and have it broken down later."""
    if any(problem.code == "no_task" for problem in told):
        return
    for placed in document.placed_features:
        if not placed.feature.tasks and not placed.feature.features:
            message = f"the feature {placed.feature.key} has no task"
            yield Problem(f"features.{placed.feature.key}", "no_task", message, "give it one, or leave it out")


def _duplicates(document: PlanDoc, begun: set[str]) -> Iterator[Problem]:
    """Tasks that ask for the same work: the same words about the same files, or about the same feature."""
    known: dict[tuple[Any, ...], str] = {}
    for placed in document.placed_tasks:
        task = placed.task
        if task.skipped or task.key in begun:
            continue
        paths = frozenset(path_clean(path) for path in (*task.files, *task.creates))
        about = "" if task.instructions.strip() or paths else placed.feature.key
        same = (task.type, _folded(task.title), _folded(task.instructions), paths, about)
        first = known.setdefault(same, task.key)
        if first != task.key:
            message = f"{task.key} asks for the same as {first}: {task.title[:100]}"
            hint = "leave one out, or say in each what is to be done there"
            yield Problem(f"tasks.{task.key}", "duplicate_task", message, hint)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
