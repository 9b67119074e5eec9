"""From a goal to tasks: research without a model, a planner with one, and the plan's rows."""

from __future__ import annotations

import uuid
from functools import partial

from langchain_core.messages import BaseMessage, SystemMessage
from langgraph.runtime import Runtime
from pydantic import ValidationError

from apps.agents.nodes.brief import goal_brief
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.follow_up import question_continue
from apps.agents.prompts import prompt_read
from apps.agents.services.sessions import session_plan_set
from apps.agents.tools.conversation import SubmitPlanArguments
from apps.agents.types import Event
from apps.core.kill_points import kill_point
from apps.planning.services import plan_create
from apps.planning.types import FeatureDraft, TaskDraft
from apps.projects.models import Project


async def plan_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Open the planner's conversation with what can be known without a model."""
    return await _conversation_begin(runtime.context, "planner", "planning")


async def research_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Open the conversation of a reading agent that works on the goal as a whole (researcher, reviewer)."""
    context = runtime.context
    return await _conversation_begin(context, context.facts.agent_type.value, "researching")


async def plan_record(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Turn what the planner handed over into rows; without a usable plan the goal is the one task, and said so."""
    context = runtime.context
    handed = await context.ledger.result_load(uuid.UUID(state["execution_id"])) or {}
    try:
        plan = SubmitPlanArguments.model_validate(handed)
    except ValidationError:
        return await _plan_store(context, _plan_of_goal(context.facts.goal), note="the planner handed over no plan")
    features = tuple(
        FeatureDraft(
            title=feature.title,
            description=feature.description,
            tasks=tuple(TaskDraft(title=task.title, instructions=task.instructions) for task in feature.tasks),
        )
        for feature in plan.features
    )
    return await _plan_store(context, (plan.summary, features), note="")


async def plan_skip(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """A coder alone gets the goal as its one task."""
    return await _plan_store(runtime.context, _plan_of_goal(runtime.context.facts.goal), note="")


def _plan_of_goal(goal: str) -> tuple[str, tuple[FeatureDraft, ...]]:
    title = goal.strip().partition("\n")[0][:300]
    return title, (FeatureDraft(title=title, description="", tasks=(TaskDraft(title=title, instructions=goal),)),)


async def _plan_store(context: RunContext, plan: tuple[str, tuple[FeatureDraft, ...]], *, note: str) -> SessionState:
    summary, features = plan
    key, plan_id = context.facts.turn_key("plan"), context.facts.plan_id
    if await context.ledger.effect_find(key) is None:
        titles = [feature.title for feature in features]
        tasks = [task.title for feature in features for task in feature.tasks]
        created = Event(
            "PlanCreated", {"plan": str(plan_id), "summary": summary, "features": titles, "tasks": tasks, "note": note}
        )
        made = partial(
            _plan_create,
            session_id=context.facts.session_id,
            plan_id=plan_id,
            project_id=context.facts.project_id,
            goal=context.facts.goal,
            summary=summary,
            features=features,
        )
        await context.ledger.effect_apply(key, made, created, result={"plan": str(plan_id)})
        kill_point("plan.recorded")
    return {"ended": False}


def _plan_create(
    *,
    session_id: uuid.UUID,
    plan_id: uuid.UUID,
    project_id: uuid.UUID,
    goal: str,
    summary: str,
    features: tuple[FeatureDraft, ...],
) -> None:
    project = Project.objects.get(id=project_id)
    plan = plan_create(plan_id=plan_id, project=project, goal=goal, summary=summary, features=features)
    session_plan_set(session_id=session_id, plan=plan)


async def _conversation_begin(context: RunContext, role: str, phase: str) -> SessionState:
    key = context.facts.turn_key(f"phase:{phase}")
    await context.ledger.effect_record(key, Event("PhaseChanged", {"phase": phase}), result={})
    if context.facts.turn:
        execution_id = await question_continue(context, role=role)
    else:
        messages: list[BaseMessage] = [SystemMessage(prompt_read(role)), await goal_brief(context)]
        execution_id = await context.ledger.execution_open(role=role, task_id=None, messages=messages)
    ended = await context.ledger.result_load(execution_id) is not None
    return {"execution_id": str(execution_id), "role": role, "ended": ended}
