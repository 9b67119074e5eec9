"""Looking at a plan again while it is carried out: handing over what has not started anew, or leaving it as it is."""

from __future__ import annotations

from pydantic import Field

from apps.agents.tools.base import Arguments, Finish, Observation, Risk, Tool, ToolContext
from apps.agents.tools.planning import FeatureArguments, TaskArguments


class RevisedTaskArguments(TaskArguments):
    title: str = Field(default="", max_length=300, description="Left out for a task that is there: as it is.")
    key: str = Field(
        default="",
        description="Of a task that has not started, to keep it: what you leave out of it stays as it is. A new task "
        "needs none.",
    )
    depends_on: tuple[str, ...] = Field(
        default=(),
        description="Keys of the tasks that must be done first; [] for none. Left out: of a task that is there, those "
        "that it has; of a new one, the task before it.",
    )
    replaces: str = Field(
        default="",
        description="Key of a failed task whose place a new one takes: what needed that one needs this one then.",
    )


class RevisedFeatureArguments(FeatureArguments):
    title: str = Field(default="", max_length=300, description="Left out for a feature that is there: as it is.")
    key: str = Field(
        default="", description="Of a feature that is there, to have the tasks in it. A new one needs none."
    )
    tasks: tuple[RevisedTaskArguments, ...] = Field(default=(), max_length=50)


class RevisePlanArguments(Arguments):
    reason: str = Field(min_length=1, max_length=2000, description="What has changed, and what this does about it.")
    summary: str = Field(
        default="", max_length=10_000, description="The plan in a sentence or two, where that changes."
    )
    features: tuple[RevisedFeatureArguments, ...] = Field(
        default=(),
        max_length=50,
        description="Everything that is still to be done: new tasks whole, tasks that stay by their key alone. What "
        "has begun stays by itself.",
    )
    drop: tuple[str, ...] = Field(
        default=(), description="Keys of tasks that are done without: some that have not started, or that failed."
    )


class KeepPlanArguments(Arguments):
    reason: str = Field(min_length=1, max_length=2000, description="Why it serves as it is.")


async def revise_plan(context: ToolContext, arguments: RevisePlanArguments) -> Finish | Observation:
    if context.plan_revision is None:
        return Observation("there is no plan here to be revised", ok=False)
    refused = await context.plan_revision(arguments)
    # What was left out means something else than what is empty.
    return refused or Finish("the revision is taken", {"revise": arguments.model_dump(mode="json", exclude_unset=True)})


async def keep_plan(context: ToolContext, arguments: KeepPlanArguments) -> Finish:
    return Finish("the plan stays as it is", {"keep": arguments.reason})


REVISE_PLAN = Tool(
    "revise_plan",
    "Change what of the plan has not started: hand over all that is still to be done, and say what is done without.",
    RevisePlanArguments,
    Risk.TALK,
    revise_plan,
)
KEEP_PLAN = Tool("keep_plan", "Leave the plan as it is, and say why.", KeepPlanArguments, Risk.TALK, keep_plan)
