"""What a planner hands over: a plan, or the answer to a question.

Both are held against the repository before they are taken. What doesn't hold is told to the model in words, a few times;
then the best is made of the last one, and the note says so.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from apps.agents.tools.base import Arguments, Finish, FittedPlan, Observation, Risk, Tool, ToolContext
from apps.agents.types import Citation
from apps.planning.checking import Problem
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.revising import plan_mend
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskType
from apps.projects.workspace import SANDBOX_WORKSPACE

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage  # the API process doesn't load LangChain

SUBMIT_PLAN_NAME, ANSWER_NAME = "submit_plan", "answer"
#: What doesn't hold is fed back until so many were refused since a person last spoke.
REFUSALS = 4
PROBLEMS_TOLD = 20

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
        description="Keys of the tasks that must be done first. [] for none: it may be done side by side with others. "
        "Left out: the task before it.",
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
    parent: str = Field(default="", description="Key of the feature that it is a part of, which stands before it.")
    priority: Priority = Priority.NORMAL
    effort: Effort = Effort.MEDIUM
    depends_on: tuple[str, ...] = Field(
        default=(), description="Keys of features all of whose tasks must be done first."
    )
    tasks: tuple[TaskArguments, ...] = Field(default=(), max_length=50)


class SubmitPlanArguments(Arguments):
    summary: str = Field(min_length=1, description="The plan in a sentence or two.")
    intent: Intent = Field(default=Intent.FEATURE, description="What the goal asks for: small_edit, bug or feature.")
    features: tuple[FeatureArguments, ...] = Field(min_length=1, max_length=50)


class CitationArguments(Arguments):
    path: str = Field(min_length=1, description="Relative to the repository's root.")
    start_line: int = Field(ge=1, le=10_000_000)
    end_line: int = Field(default=0, ge=0, le=10_000_000, description="0: the first line alone.")


class AnswerArguments(Arguments):
    text: str = Field(min_length=1, max_length=100_000, description="The answer, as Markdown.")
    citations: tuple[CitationArguments, ...] = Field(
        default=(), max_length=100, description="The lines that the answer is known from: each claim needs some."
    )
    uncited_reason: str = Field(
        default="", max_length=1000, description="Where nothing can be cited: why the question is not about the code."
    )


async def submit_plan(context: ToolContext, arguments: SubmitPlanArguments) -> Observation | Finish:
    try:
        submitted = plan_of(arguments, taken=await context.planning.keys_taken())
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return plan_refuse(context.conversation, [Problem("", "invalid", wrong)])
    fitted = await context.planning.plan_fit(submitted)
    problems = [*_intent_problems(submitted), *fitted.problems]
    if not problems:
        return Finish("the plan is taken", plan_result(fitted, note=""))
    if not _is_last(context.conversation, SUBMIT_PLAN_NAME):
        return plan_refuse(context.conversation, problems)
    left_out = "; ".join(str(problem) for problem in problems)
    mended = await context.planning.plan_fit(plan_mend(submitted, problems))
    if mended.problems:
        return plan_refuse(context.conversation, problems)
    note = f"of {REFUSALS} plans none held; of the last one this was left out or set right: {left_out}"
    return Finish(f"the plan is taken, but for what doesn't hold: {left_out}", plan_result(mended, note=note))


def plan_result(fitted: FittedPlan, *, note: str) -> dict[str, Any]:
    """What the planner's execution comes to, as ``nodes.planning`` reads it."""
    return {"document": fitted.document.as_dict(), "version": fitted.version, "note": note}


def plan_refuse(conversation: Sequence[BaseMessage], problems: Sequence[Problem]) -> Observation | Finish:
    """What a planner hears of a plan that doesn't hold; after a few of these its work has ended without one."""
    told = [f"- {problem.where}: {problem}" if problem.where else f"- {problem}" for problem in problems]
    more = [f"- and {len(told) - PROBLEMS_TOLD} more"] if len(told) > PROBLEMS_TOLD else []
    if _is_last(conversation, SUBMIT_PLAN_NAME):
        note = f"{REFUSALS} plans were handed over and none held; the last one: {'; '.join(map(str, problems))}"
        return Finish("the plan is not taken; the work goes on without one", {"document": None, "note": note})
    text = "\n".join(
        ["The plan is not taken, since this doesn't hold:", *told[:PROBLEMS_TOLD], *more]
        + ["Set it right, and hand the whole plan over again."]
    )
    return Observation(text, ok=False, summary=f"refused: {problems[0]}")


async def answer(context: ToolContext, arguments: AnswerArguments) -> Observation | Finish:
    if problem := await context.planning.answer_problem():
        return Observation(problem, ok=False, summary=problem)
    cited = [
        Citation(_path_plain(each.path), each.start_line, max(each.end_line, each.start_line))
        for each in arguments.citations
    ]
    found = await context.planning.citation_problems(cited)
    wrong = [f"- {each}: {problem}" for each, problem in zip(cited, found, strict=True) if problem]
    right = tuple(dict.fromkeys(each for each, problem in zip(cited, found, strict=True) if not problem))
    if not wrong and not right and not arguments.uncited_reason.strip():
        wrong = ["- an answer about the code needs citations; where it is not about the code, give uncited_reason"]
    if not wrong:
        return _answered(arguments, right, note="")
    if not _is_last(context.conversation, ANSWER_NAME):
        text = "\n".join(["The answer is not taken:", *wrong, "Look again, and answer with what is there."])
        return Observation(text, ok=False, summary=f"refused: {wrong[0][2:]}")
    lacking = "what it cites was not found" if cited else "it cites nothing"
    return _answered(arguments, right, note=f"After {REFUSALS} tries, {lacking}: {'; '.join(w[2:] for w in wrong)}")


def _answered(arguments: AnswerArguments, citations: tuple[Citation, ...], *, note: str) -> Finish:
    parts = [arguments.text.strip()]
    if citations:
        parts.append("Sources:\n" + "\n".join(f"- `{each}`" for each in citations))
    elif arguments.uncited_reason.strip():
        parts.append(f"No sources: {arguments.uncited_reason.strip()}")
    if note:
        parts.append(f"Note: {note}")
    told = {
        "text": arguments.text.strip(),
        "citations": [each.as_dict() for each in citations],
        "uncited_reason": arguments.uncited_reason.strip(),
        "note": note,
    }
    return Finish("the answer is taken", {"summary": "\n\n".join(parts), "answer": told})


def _path_plain(path: str) -> str:
    """As the commit names it, however the model came to write it."""
    plain = posixpath.normpath(path.strip().removeprefix(f"{SANDBOX_WORKSPACE}/"))
    return plain.removeprefix("./")


def _is_last(conversation: Sequence[BaseMessage], name: str) -> bool:
    """Whether this is the last try, by the refusals since a person last said something."""
    # Not at the top: the API process knows the tools and doesn't load LangChain.
    from langchain_core.messages import ToolMessage

    from apps.agents.services.server_words import is_persons

    refused = 0
    for message in reversed(conversation):
        if is_persons(message):
            break
        refused += isinstance(message, ToolMessage) and message.name == name and message.status == "error"
    return refused >= REFUSALS - 1


def _intent_problems(plan: PlanDoc) -> list[Problem]:
    if plan.intent is not Intent.QUESTION:
        return []
    message = "the goal is said to be a question, which gets an answer and no plan"
    return [Problem("intent", "question", message, "call answer, or say what kind of change the plan is for")]


def plan_of(arguments: SubmitPlanArguments, *, taken: Collection[str] = ()) -> PlanDoc:
    """The plan that was handed over, with keys where none were given and features put where they belong.

    ``taken`` are keys that are not given to tasks without one. What has several tasks is no small edit. Raises
    pydantic's ValidationError where a key or a text is none. Whether the plan holds is not looked at.
    """
    numbers = {"F": 0, "T": 0}
    used = {each.key for each in arguments.features} | {task.key for each in arguments.features for task in each.tasks}
    used |= set(taken)

    def key_next(prefix: str) -> str:
        numbers[prefix] += 1
        while f"{prefix}{numbers[prefix]}" in used:
            numbers[prefix] += 1
        return f"{prefix}{numbers[prefix]}"

    previous = ""
    made: list[tuple[str, FeatureDoc]] = []
    for feature in arguments.features:
        key = feature.key or key_next("F")
        tasks = []
        for task in feature.tasks:
            task_key = task.key or key_next("T")
            needs = [previous if needed == PREVIOUS else needed for needed in task.depends_on]
            tasks.append(
                TaskDoc(
                    key=task_key,
                    title=task.title,
                    instructions=task.instructions,
                    type=task.type,
                    agent_type=task.agent_type,
                    depends_on=tuple(dict.fromkeys(needed for needed in needs if needed)),
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


SUBMIT_PLAN = Tool(
    SUBMIT_PLAN_NAME,
    "Hand over the plan: features, each with the tasks that make it. What doesn't hold in it is told.",
    SubmitPlanArguments,
    Risk.TALK,
    submit_plan,
)
ANSWER = Tool(
    ANSWER_NAME,
    "Answer a goal that is a question and asks for no change, with the lines of the files that the answer is known from.",
    AnswerArguments,
    Risk.TALK,
    answer,
)
