"""Speaking to the person, handing over a plan, and ending the work."""

from __future__ import annotations

from pydantic import Field

from apps.agents.tools.base import Arguments, Finish, Question, Risk, Tool, ToolContext


class AskUserArguments(Arguments):
    question: str = Field(min_length=1)
    choices: tuple[str, ...] = Field(default=(), description="Answers to choose from, if there are any.")


async def ask_user(context: ToolContext, arguments: AskUserArguments) -> Question:
    return Question(arguments.question, arguments.choices)


class FinishArguments(Arguments):
    summary: str = Field(min_length=1, description="What was done, or why it could not be, in a few sentences.")


async def finish(context: ToolContext, arguments: FinishArguments) -> Finish:
    return Finish("noted", {"summary": arguments.summary})


class TaskDraftArguments(Arguments):
    title: str = Field(min_length=1, max_length=300)
    instructions: str = Field(default="", description="What to do, where, and how to tell that it is done.")


class FeatureDraftArguments(Arguments):
    title: str = Field(min_length=1, max_length=300)
    description: str = ""
    tasks: tuple[TaskDraftArguments, ...] = Field(min_length=1, max_length=20)


class SubmitPlanArguments(Arguments):
    summary: str = Field(min_length=1, description="The plan in a sentence or two.")
    features: tuple[FeatureDraftArguments, ...] = Field(min_length=1, max_length=10)


async def submit_plan(context: ToolContext, arguments: SubmitPlanArguments) -> Finish:
    return Finish("the plan is taken", arguments.model_dump(mode="json"))


ASK_USER = Tool(
    "ask_user",
    "Ask the person a question and wait for the answer. Only when the work cannot go on without it.",
    AskUserArguments,
    Risk.TALK,
    ask_user,
)
FINISH = Tool("finish", "End your work on this task and say what you did.", FinishArguments, Risk.TALK, finish)
SUBMIT_PLAN = Tool(
    "submit_plan",
    "Hand over the plan: features, each with the tasks that make it, in the order in which they are to be done.",
    SubmitPlanArguments,
    Risk.TALK,
    submit_plan,
)
