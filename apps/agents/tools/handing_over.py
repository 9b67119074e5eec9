"""Handing over what a planner has made: a plan, or the answer to a question.

Both are held against the repository before they are taken. What doesn't hold is told to the model in words, a few
times; then the best is made of the last one, and the note says so.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from apps.agents.tools.base import Arguments, Finish, FittedPlan, Observation, Risk, Tool, ToolContext
from apps.agents.tools.plan_judging import intent_problems, plan_read, problems_text
from apps.agents.tools.planning import SubmitPlanArguments
from apps.agents.types import Citation
from apps.planning.document import PlanDoc
from apps.planning.problems import Problem
from apps.planning.revising import plan_mend
from apps.projects.workspace import SANDBOX_WORKSPACE

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage  # the API process doesn't load LangChain

SUBMIT_PLAN_NAME, ANSWER_NAME = "submit_plan", "answer"
#: What doesn't hold is fed back until so many were refused since a person last spoke.
REFUSALS = 4
_NOTE_LENGTH = 2_000


class CitationArguments(Arguments):
    path: str = Field(min_length=1)
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
    submitted = plan_read(arguments, taken=await context.planning.keys_taken())
    if not isinstance(submitted, PlanDoc):
        return plan_refuse(context.conversation, submitted)
    fitted = await context.planning.plan_fit(submitted)
    problems = [*intent_problems(submitted), *fitted.problems]
    if not problems:
        return Finish("the plan is taken", plan_result(fitted, note=""))
    if not _is_last(context.conversation, SUBMIT_PLAN_NAME):
        return plan_refuse(context.conversation, problems)
    mended = await context.planning.plan_fit(plan_mend(submitted, problems))
    if mended.problems:
        return plan_refuse(context.conversation, problems)
    left_out = _told(problems)
    note = f"of {REFUSALS} plans none held; of the last one this was left out or set right: {left_out}"
    return Finish(f"the plan is taken, but for what doesn't hold: {left_out}", plan_result(mended, note=note))


def plan_result(fitted: FittedPlan, *, note: str) -> dict[str, Any]:
    """What the planner's execution comes to, as ``nodes.planning`` reads it."""
    return {"document": fitted.document.as_dict(), "version": fitted.version, "note": note}


def plan_refuse(conversation: Sequence[BaseMessage], problems: Sequence[Problem]) -> Observation | Finish:
    """What a planner hears of a plan that doesn't hold; after a few of these its work has ended without one."""
    if _is_last(conversation, SUBMIT_PLAN_NAME):
        note = f"{REFUSALS} plans were handed over and none held; the last one: {_told(problems)}"
        return Finish("the plan is not taken; the work goes on without one", {"document": None, "note": note})
    return Observation(problems_text(problems), ok=False, summary=f"refused: {problems[0]}")


async def answer(context: ToolContext, arguments: AnswerArguments) -> Observation | Finish:
    if problem := await context.planning.answer_problem():
        return Observation(problem, ok=False, summary=problem)
    cited = [
        Citation(_path_plain(each.path), each.start_line, max(each.end_line, each.start_line))
        for each in arguments.citations
    ]
    found = await context.planning.citation_problems(cited)
    wrong = [f"{each}: {problem}" for each, problem in zip(cited, found, strict=True) if problem]
    right = tuple(dict.fromkeys(each for each, problem in zip(cited, found, strict=True) if not problem))
    if not wrong and not right and not arguments.uncited_reason.strip():
        wrong = ["an answer about the code needs citations; where it is not about the code, give uncited_reason"]
    if not wrong:
        return _answered(arguments, right, note="")
    if not _is_last(context.conversation, ANSWER_NAME):
        listed = [f"- {each}" for each in wrong]
        text = "\n".join(["The answer is not taken:", *listed, "Look again, and answer with what is there."])
        return Observation(text, ok=False, summary=f"refused: {wrong[0]}")
    lacking = "what it cites was not found" if cited else "it cites nothing"
    return _answered(arguments, right, note=f"after {REFUSALS} tries, {lacking}: {'; '.join(wrong)}"[:_NOTE_LENGTH])


def _answered(arguments: AnswerArguments, citations: tuple[Citation, ...], *, note: str) -> Finish:
    text, reason = arguments.text.strip(), arguments.uncited_reason.strip() if not citations else ""
    parts = [text, f"No sources: {reason}" if reason else "", f"Note: {note}" if note else ""]
    result = {
        # As the report shows it, sources apart.
        "answer": "\n\n".join(part for part in parts if part),
        "text": text,
        "citations": [each.as_dict() for each in citations],
        "uncited_reason": reason,
        "note": note,
    }
    return Finish("the answer is taken", result)


def _path_plain(path: str) -> str:
    """As the commit names it, however the model came to write it."""
    return posixpath.normpath(path.strip().removeprefix(f"{SANDBOX_WORKSPACE}/"))


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


def _told(problems: Sequence[Problem]) -> str:
    return "; ".join(str(problem) for problem in problems)[:_NOTE_LENGTH]


SUBMIT_PLAN = Tool(
    SUBMIT_PLAN_NAME,
    "Hand over the plan: features, each with the tasks that make it. What doesn't hold in it is told.",
    SubmitPlanArguments,
    Risk.TALK,
    submit_plan,
)
ANSWER = Tool(
    ANSWER_NAME,
    "Answer a goal that is a question and asks for no change, with the lines of the files that the answer is known"
    " from.",
    AnswerArguments,
    Risk.TALK,
    answer,
)
