"""Speaking to the person, and ending the work."""

from __future__ import annotations

from pydantic import Field

from apps.agents.tools.base import Arguments, Finish, Observation, Question, Risk, Tool, ToolContext


class AskUserArguments(Arguments):
    question: str = Field(min_length=1)
    choices: tuple[str, ...] = Field(default=(), description="Answers to choose from, if there are any.")


async def ask_user(context: ToolContext, arguments: AskUserArguments) -> Question:
    return Question(arguments.question, arguments.choices)


class FinishArguments(Arguments):
    summary: str = Field(min_length=1, description="What was done, or why it could not be, in a few sentences.")


async def finish(context: ToolContext, arguments: FinishArguments) -> Finish | Observation:
    if context.review is not None:
        return Observation("a review is handed over with submit_review", ok=False, summary="submit it")
    return Finish("noted", {"summary": arguments.summary})


ASK_USER = Tool(
    "ask_user",
    "Ask the person a question and wait for the answer. Only when the work cannot go on without it.",
    AskUserArguments,
    Risk.TALK,
    ask_user,
)
FINISH = Tool("finish", "End your work on this task and say what you did.", FinishArguments, Risk.TALK, finish)
