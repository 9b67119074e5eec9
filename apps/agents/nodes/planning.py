"""From a goal to tasks: research without a model, a planner with one, and the plan's rows."""

from __future__ import annotations

import uuid
from functools import partial

from langgraph.runtime import Runtime
from pydantic import ValidationError

from apps.agents.nodes.brief import goal_brief
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.follow_up import question_continue
from apps.agents.nodes.opening import conversation_opening
from apps.agents.services.sessions import made_in, session_plan_set
from apps.agents.tools.planning import SubmitPlanArguments, plan_of
from apps.agents.types import Event
from apps.core.kill_points import kill_point
from apps.planning.document import TEXT_LENGTH, TITLE_LENGTH, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.services import plan_create
from apps.planning.types import Intent
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
        plan = plan_of(SubmitPlanArguments.model_validate(handed))
    except ValidationError:
        return await _plan_store(context, plan_of_goal(context.facts.goal), note="the planner handed over no plan")
    return await _plan_store(context, plan, note="")


async def plan_skip(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """A coder alone gets the goal as its one task."""
    return await _plan_store(runtime.context, plan_of_goal(runtime.context.facts.goal), note="")


def plan_of_goal(goal: str) -> PlanDoc:
    """The goal as its own one task."""
    title = goal.strip().partition("\n")[0][:TITLE_LENGTH] or "The goal"
    task = TaskDoc(key="T1", title=title, instructions=goal[:TEXT_LENGTH])
    return PlanDoc(
        summary=title, intent=Intent.SMALL_EDIT, features=(FeatureDoc(key="F1", title=title, tasks=(task,)),)
    )


async def _plan_store(context: RunContext, plan: PlanDoc, *, note: str) -> SessionState:
    key, plan_id = context.facts.turn_key("plan"), context.facts.plan_id
    if await context.ledger.effect_find(key) is None:
        created = Event(
            "PlanCreated",
            {
                "plan": str(plan_id),
                "summary": plan.summary,
                "features": [placed.feature.title for placed in plan.placed_features],
                "tasks": [placed.task.title for placed in plan.placed_tasks],
                "note": note,
            },
        )
        made = partial(
            _plan_create,
            session_id=context.facts.session_id,
            plan_id=plan_id,
            project_id=context.facts.project_id,
            goal=context.facts.goal,
            document=plan,
        )
        await context.ledger.effect_apply(key, made, created, result={"plan": str(plan_id)})
        kill_point("plan.recorded")
    return {"ended": False}


def _plan_create(
    *, session_id: uuid.UUID, plan_id: uuid.UUID, project_id: uuid.UUID, goal: str, document: PlanDoc
) -> None:
    project = Project.objects.get(id=project_id)
    plan = plan_create(plan_id=plan_id, project=project, goal=goal, document=document, made_in=made_in(session_id))
    session_plan_set(session_id=session_id, plan=plan)


async def _conversation_begin(context: RunContext, role: str, phase: str) -> SessionState:
    key = context.facts.turn_key(f"phase:{phase}")
    await context.ledger.effect_record(key, Event("PhaseChanged", {"phase": phase}), result={})
    if context.facts.turn:
        execution_id = await question_continue(context, role=role)
    else:
        messages = await conversation_opening(context, role=role, brief=await goal_brief(context))
        execution_id = await context.ledger.execution_open(role=role, task_id=None, messages=messages)
    ended = await context.ledger.result_load(execution_id) is not None
    return {"execution_id": str(execution_id), "role": role, "ended": ended}
